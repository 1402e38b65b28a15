"""The messages between versions are those of the last release, or the wire version was raised."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import wire
from base.ipc.control import WIRE_VERSION, ControlMessage
from base.ipc.front_door_control import (
    AcceptAlso,
    Configure,
    JobDemand,
    Listening,
    MirrorReport,
    ModelsRequested,
    ModelStates,
    OutcomeReport,
    Ping,
    Pong,
    ReportNotReady,
    RequestsSent,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
)

KNOWN = json.loads(wire.FILE.read_text())


def test_messages_are_those_of_the_last_release_or_the_wire_version_was_raised() -> None:
    """Otherwise a worker of that release would get messages that it does not understand."""
    changed = wire.differences(KNOWN, wire.describe_wire())
    released = KNOWN["wire"]
    assert released <= WIRE_VERSION
    assert not changed or released < WIRE_VERSION, (
        f"raise WIRE_VERSION in base/ipc/control.py above {released}, that of the last release (docs/design.md, 'How a release is cut'), "
        f"or list in scripts/wire.py what either side may not know: {'; '.join(changed)}"
    )


def test_each_control_message_is_one_of_a_worker_or_one_of_a_front_door() -> None:
    """The author of a new message decides whether it crosses between versions."""
    of_front_doors = {
        RoutingTable,
        ModelStates,
        ModelsRequested,
        Configure,
        Listening,
        TableApplied,
        RoutesDrained,
        OutcomeReport,
        MirrorReport,
        WorkerUnhealthy,
        RequestsSent,
        JobDemand,
        ReportNotReady,
        AcceptAlso,
        Ping,
        Pong,
    }
    assert {*wire.CONTROL_MESSAGES, *of_front_doors} == set(typing.get_args(ControlMessage))
    assert not of_front_doors.intersection(wire.CONTROL_MESSAGES)


@pytest.mark.parametrize(
    ("file", "old", "new", "difference"),
    [
        ("ipc/control.py", 'tag="failed"', 'tag="fell"', "Failed, tag: failed → fell"),
        ("ipc/metrics_report.py", "    sample: list[float]", "    sample: list[int]", "ValueSummary, sample: list[float] → list[int]"),
        (
            "ipc/release_spec.py",
            "    batch_max_delay_ms: int\n",
            "    batch_max_delay_ms: int = 0\n",
            "batch_max_delay_ms: int → int, or left out",
        ),
        (
            "ipc/release_spec.py",
            "    batch_max_rows: int\n",
            "    batch_max_rows: int\n    weight: int\n",
            "EndpointSpec, weight: None → int",
        ),
        ("ipc/control.py", "    warnings: list[str] = []", "    warnings: str = ''", "Ready, warnings"),
        ("ipc/cache_control.py", 'msgspec.field(name="begun")', 'msgspec.field(name="started")', "CacheRefreshed, begun: int → None"),
        ("ipc/failure.py", "        errors.Full,\n", "", "failures"),
        ("ipc/protocol.py", "    STARTED: Final = 17", "    STARTED: Final = 18", "Started, as bytes"),
        (
            "ipc/protocol.py",
            "(MessageKind.REPLY_TOO_LARGE, 0, 0, batch, 0, length, 0, 0)",
            "(MessageKind.REPLY_TOO_LARGE, 0, 0, batch, length, 0, 0, 0)",
            "ReplyTooLarge, as bytes",
        ),
        ("ipc/protocol.py", "    RETAINED: Final = 4", "    RETAINED: Final = 32", "RETAINED: 4 → 32"),
        ("endpoint/context.py", '    content_type: str = ""\n', "", "RequestContext, content_type"),
    ],
)
def test_each_change_of_the_wire_is_named(tmp_path: Path, file: str, old: str, new: str, difference: str) -> None:
    """A change of a control message, of a struct inside one, and of the bytes of a channel message."""
    changed = describe_changed_tree(tmp_path, file, old, new)
    assert difference in "; ".join(wire.differences(wire.describe_wire(), changed))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("ipc/release_spec.py", 'name="text")', 'name="prose")'),
        ("ipc/front_door_control.py", "    requests_sent_interval: int = 0", "    interval: int = 0"),
        ("ipc/control.py", "    warnings: list[str] = []", ""),
    ],
)
def test_messages_of_one_version_may_change(tmp_path: Path, file: str, old: str, new: str) -> None:
    """Messages between a supervisor and its front doors are an example."""
    assert wire.differences(wire.describe_wire(), describe_changed_tree(tmp_path, file, old, new)) == []


def describe_changed_tree(folder: Path, file: str, old: str, new: str) -> dict[str, object]:
    """Returns the description of a copy of the tree in which `old` is replaced by `new`."""
    shutil.copytree(Path(wire.__file__).parent.parent / "base", folder / "base", ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "base" / file
    text = source.read_text()
    assert text.count(old) >= 1
    head, _, tail = text.rpartition(old)
    source.write_text(head + new + tail)
    run = [sys.executable, wire.__file__]
    output = subprocess.run(run, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, check=True, text=True).stdout
    found: dict[str, object] = json.loads(output)
    return found
