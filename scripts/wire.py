"""Describes what crosses between a worker and those of another version: the words, their fields and bytes.

    .venv/bin/python scripts/wire.py            # of this tree
    .venv/bin/python scripts/wire.py --update   # into tests/base/ipc/released_wire.json, after a release

What only supervisor and front door say to each other is left out: both are started from one base.
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
from base.ipc.control import WIRE_VERSION, Drain, Failed, Ready
from base.ipc.metrics_report import MetricsReport

FILE = Path(__file__).resolve().parent.parent / "tests" / "base" / "ipc" / "released_wire.json"

LINES = (Ready, Failed, MetricsReport, Drain, *typing.get_args(CacheRequest), *typing.get_args(CacheResponse))
"""The control words that a worker says or hears."""

MAY_BE_UNKNOWN = frozenset({"EndpointDocs", "EndpointSpec.docs", "Ready.warnings"})
"""Words and fields that a side may lack or not know, but not take for something else."""

_OPEN = ", or not known"


def main() -> None:
    """Prints the description, or writes it into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help=f"write {FILE.name}")
    text = json.dumps(described(), indent=1)
    if parser.parse_args().update:
        FILE.write_text(text + "\n")
    else:
        print(text)


def described() -> dict[str, Any]:
    """The wire version, and by name what it stands for."""
    return {
        "wire": WIRE_VERSION,
        "words": {word.__name__.lstrip("_"): fields(word) for word in reached((*LINES, RequestContext, failure._ErrorBody))},  # noqa: SLF001 - its form is meant
        "failures": sorted(failure._ERROR_TYPES),  # noqa: SLF001 - as above
        "messages": {message.__name__: fields(message) | {"as bytes": sample(message)} for message in typing.get_args(protocol.Message)},
        "flags": {name: value for name, value in vars(protocol.Flag).items() if name.isupper()},
    }


def differences(known: Any, found: Any, place: str = "the wire") -> list[str]:
    """One line for each part that is another, or that one side does not have and must know; the version itself aside."""
    if isinstance(known, dict) != isinstance(found, dict):
        known, found = known or {}, found or {}
    if not isinstance(known, dict):
        may_lack = (known is None or found is None) and _OPEN in f"{known}{found}"
        return [] if known == found or may_lack else [f"{place}: {known} → {found}"]
    names = [*known, *(name for name in found if name not in known)]
    return [line for name in names if name != "wire" for line in differences(known.get(name), found.get(name), f"{place}, {name}")]


def fields(word: type[msgspec.Struct]) -> dict[str, str]:
    """Name → type of each field as it is written; and the tag, where it has one."""
    found = {"tag": str(word.__struct_config__.tag)} if word.__struct_config__.tag else {}
    for field in msgspec.structs.fields(word):
        unknown = not MAY_BE_UNKNOWN.isdisjoint({word.__name__, f"{word.__name__}.{field.name}"})
        found[field.encode_name] = named(field.type) + (_OPEN if unknown else "" if field.required else ", or left out")
    return found


def reached(words: tuple[type[msgspec.Struct], ...]) -> Iterator[type[msgspec.Struct]]:
    """The words, and those that lie in their fields; each once."""
    waiting, seen = list(words), set()
    while waiting:
        word = waiting.pop(0)
        if word not in seen:
            seen.add(word)
            yield word
            for field in msgspec.structs.fields(word):
                waiting += structs(field.type)


def structs(kind: Any) -> list[type[msgspec.Struct]]:
    """Those in a type, such as one in a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [struct for part in typing.get_args(kind) for struct in structs(part)]


def named(kind: Any) -> str:
    """`int`, `list[EntryState]`, `str | None`: without modules."""
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else re.sub(r"\b[\w.]+\.", "", str(kind))


def sample(message: type[msgspec.Struct]) -> str:
    """The bytes of one message, in hex, in which each field has another value."""
    numbers = iter(range(1, 100))

    def value(kind: Any) -> Any:
        if kind is protocol.SegmentSlice:
            return protocol.SegmentSlice(*(next(numbers) for _ in range(3)))
        if kind is int:
            return next(numbers)
        return b"{}" if kind is bytes else f"s{next(numbers)}"

    made = message(*(value(field.type) for field in msgspec.structs.fields(message)))
    return protocol.pack_message(typing.cast("protocol.Message", made)).hex()


if __name__ == "__main__":
    main()
