"""Describes the messages between a worker and processes of another version: their names, fields and bytes.

    .venv/bin/python scripts/wire.py            # of this tree
    .venv/bin/python scripts/wire.py --update   # into tests/base/ipc/released_wire.json, after a release

Messages that only a supervisor and its front doors exchange are left out: both are started from one base.
"""

from __future__ import annotations

import argparse
import json
import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from base.endpoint.context import RequestContext
from base.ipc import failure, protocol
from base.ipc.cache_control import CacheRequest, CacheResponse
from base.ipc.control import WIRE_VERSION, Described, Drain, Failed, Ready
from base.ipc.metrics_report import MetricsReport

FILE = Path(__file__).resolve().parent.parent / "tests" / "base" / "ipc" / "released_wire.json"

CONTROL_MESSAGES = (Ready, Described, Failed, MetricsReport, Drain, *typing.get_args(CacheRequest), *typing.get_args(CacheResponse))
"""The control messages that a worker sends or receives."""

_TAGGED = ("Welcome", "Reply", "Failure", "StreamPart", "StreamEnd", "ParametersAccepted")

_OF_RELEASES = (
    "Described",
    "EndpointDocs",
    "EndpointSpec.call_max_rows",
    "EndpointSpec.docs",
    "EndpointSpec.group_by",
    "EndpointSpec.job",
    "EndpointSpec.max_concurrency",
    "EndpointSpec.media_type",
    "EndpointSpec.method",
    "EndpointSpec.query",
    "EndpointSpec.reply_parts",
    "EndpointSpec.tables",
    "EndpointSpec.whole",
    "Example.query",
    "JobContext",
    "ProgressReport",
    "Ready.warnings",
    "Reply.errors_length",
    "ReplyBuffer.flags",
    "RequestContext.arrow",
    "RequestContext.job",
)

_LATER_FLAGS = frozenset({"RECORD", "TABLE", "PARTS"})
"""Flags that only messages about endpoints have which a worker of the last release cannot declare."""

MAY_BE_UNKNOWN = frozenset({*_OF_RELEASES, *(f"{message}.release" for message in _TAGGED)})
"""Structs and fields that a side may lack or not know, but must not take for something else."""

_OPTIONAL = ", or not known"


def main() -> None:
    """Prints the description, or writes it into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help=f"write {FILE.name}")
    text = json.dumps(describe_wire(), indent=1)
    if parser.parse_args().update:
        FILE.write_text(text + "\n")
    else:
        print(text)


def describe_wire() -> dict[str, Any]:
    """Returns the wire version and a description of all messages and flags, by name."""
    roots = (*CONTROL_MESSAGES, RequestContext, failure._ErrorBody)  # noqa: SLF001 - the bodies of channel messages
    channel_messages = typing.get_args(protocol.Message)
    return {
        "wire": WIRE_VERSION,
        "structs": {struct.__name__.lstrip("_"): describe_fields(struct) for struct in reachable_structs(roots)},
        "failures": sorted(failure._ERROR_TYPES),  # noqa: SLF001 - as above
        "messages": {message.__name__: describe_fields(message) | {"as bytes": sample_bytes(message)} for message in channel_messages},
        "flags": {
            name: f"{value}{_OPTIONAL}" if name in _LATER_FLAGS else value for name, value in vars(protocol.Flag).items() if name.isupper()
        },
    }


def differences(known: Any, found: Any, place: str = "the wire") -> list[str]:
    """Returns a line for each part that differs, or that one side lacks and must know. Ignores the version itself."""
    if isinstance(known, dict) != isinstance(found, dict):
        known, found = known or {}, found or {}
    if not isinstance(known, dict):
        may_lack = (known is None or found is None) and _OPTIONAL in f"{known}{found}"
        return [] if known == found or may_lack else [f"{place}: {known} → {found}"]
    names = [*known, *(name for name in found if name not in known)]
    return [line for name in names if name != "wire" for line in differences(known.get(name), found.get(name), f"{place}, {name}")]


def describe_fields(struct: type[msgspec.Struct]) -> dict[str, str]:
    """Returns the type of each field by its name on the wire, and the tag, if there is one."""
    optional = _OPTIONAL if struct.__name__ in MAY_BE_UNKNOWN else ""
    found = {"tag": f"{struct.__struct_config__.tag}{optional}"} if struct.__struct_config__.tag else {}
    for field in msgspec.structs.fields(struct):
        unknown = not MAY_BE_UNKNOWN.isdisjoint({struct.__name__, f"{struct.__name__}.{field.name}"})
        found[field.encode_name] = type_name(field.type) + (_OPTIONAL if unknown else "" if field.required else ", or left out")
    return found


def reachable_structs(roots: tuple[type[msgspec.Struct], ...]) -> Iterator[type[msgspec.Struct]]:
    """Yields the structs, and those in the types of their fields, each once."""
    waiting, seen = list(roots), set()
    while waiting:
        struct = waiting.pop(0)
        if struct not in seen:
            seen.add(struct)
            yield struct
            for field in msgspec.structs.fields(struct):
                waiting += structs_in(field.type)


def structs_in(kind: Any) -> list[type[msgspec.Struct]]:
    """Returns the structs in a type, such as the one in a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for part in typing.get_args(kind) for struct in structs_in(part)]


def type_name(kind: Any) -> str:
    """Returns the name of a type without modules: `int`, `list[EntryState]`, `str | None`."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else re.sub(r"\b[\w.]+\.", "", str(kind))


def sample_bytes(message: type[msgspec.Struct]) -> str:
    """Returns the bytes, in hex, of a message in which each field has another value. Fields that may be unknown are left out."""
    numbers = iter(range(1, 100))

    def value(kind: Any) -> Any:
        if kind is protocol.SegmentSlice:
            return protocol.SegmentSlice(*(next(numbers) for _ in range(3)))
        if kind is int:
            return next(numbers)
        return b"{}" if kind is bytes else f"s{next(numbers)}"

    fields = [field for field in msgspec.structs.fields(message) if f"{message.__name__}.{field.name}" not in MAY_BE_UNKNOWN]
    optional = _OPTIONAL if message.__name__ in MAY_BE_UNKNOWN else ""
    made = message(**{field.name: value(field.type) for field in fields})
    return protocol.pack_message(typing.cast("protocol.Message", made)).hex() + optional


if __name__ == "__main__":
    main()
