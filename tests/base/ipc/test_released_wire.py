"""What crosses between versions is that of the release before, or the wire version says that it is not."""

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
    Configure,
    Listening,
    MirrorReport,
    OutcomeReport,
    ReportNotReady,
    RequestsSent,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
)

KNOWN = json.loads(wire.FILE.read_text())


def test_words_and_messages_are_those_of_the_release_before_or_the_wire_version_was_raised() -> None:
    """A worker of that release would be spoken to as if it were of now, and would not understand."""
    changed = wire.differences(KNOWN, wire.described())
    released = KNOWN["wire"]
    assert released <= WIRE_VERSION
    assert not changed or released < WIRE_VERSION, (
        f"raise WIRE_VERSION in base/ipc/control.py above {released}, that of the release before (docs/design.md, 'How a release is cut'), "
        f"or say in scripts/wire.py that either side may not know of it: {'; '.join(changed)}"
    )


def test_each_control_word_is_one_of_a_worker_or_one_of_a_front_door() -> None:
    """A new one is thought about: whether it crosses between versions."""
    of_front_doors = {
        RoutingTable,
        Configure,
        Listening,
        TableApplied,
        RoutesDrained,
        OutcomeReport,
        MirrorReport,
        WorkerUnhealthy,
        RequestsSent,
        ReportNotReady,
    }
    assert {*wire.LINES, *of_front_doors} == set(typing.get_args(ControlMessage))
    assert not of_front_doors.intersection(wire.LINES)


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
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
        ("ipc/protocol.py", "    STARTED = 17", "    STARTED = 18", "Started, as bytes"),
        (
            "ipc/protocol.py",
            "(MessageKind.REPLY_TOO_LARGE, 0, 0, batch, 0, length, 0, 0)",
            "(MessageKind.REPLY_TOO_LARGE, 0, 0, batch, length, 0, 0, 0)",
            "ReplyTooLarge, as bytes",
        ),
        ("ipc/protocol.py", "    RETAINED = 4", "    RETAINED = 32", "RETAINED: 4 → 32"),
        ("endpoint/context.py", '    content_type: str = ""\n', "", "RequestContext, content_type"),
    ],
)
def test_each_change_of_what_crosses_is_named(tmp_path: Path, file: str, old: str, new: str, said: str) -> None:
    """Of a word, of one within another, of a message's bytes."""
    described = changed_tree(tmp_path, file, old, new)
    assert said in "; ".join(wire.differences(wire.described(), described))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("ipc/release_spec.py", 'name="text")', 'name="prose")'),
        ("ipc/front_door_control.py", "    requests_sent_interval: int = 0", "    interval: int = 0"),
        ("ipc/control.py", "    warnings: list[str] = []", ""),
    ],
)
def test_what_never_meets_another_version_may_change(tmp_path: Path, file: str, old: str, new: str) -> None:
    """Messages between a supervisor and its front doors are an example."""
    assert wire.differences(wire.described(), changed_tree(tmp_path, file, old, new)) == []


def changed_tree(folder: Path, file: str, old: str, new: str) -> dict[str, object]:
    """The description of a tree in which `old` reads `new`."""
    shutil.copytree(Path(wire.__file__).parent.parent / "base", folder / "base", ignore=shutil.ignore_patterns("__pycache__"))
    source = folder / "base" / file
    text = source.read_text()
    assert text.count(old) >= 1
    head, _, tail = text.rpartition(old)
    source.write_text(head + new + tail)
    run = [sys.executable, wire.__file__]
    said = subprocess.run(run, env={**os.environ, "PYTHONPATH": str(folder)}, capture_output=True, check=True, text=True).stdout
    found: dict[str, object] = json.loads(said)
    return found
