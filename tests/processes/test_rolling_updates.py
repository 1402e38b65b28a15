"""A model that is swapped again and again under constant load: no request is lost, no answer is stale, nothing grows or is left."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest

from constant_load import Load
from soaking.growth import descriptors_of, own_bytes
from supervisor_harness import Supervised
from tinypex import write_tiny

pytestmark = pytest.mark.alone  # it loads the machine for a minute, and measures memory meanwhile

SWAPS = int(os.environ.get("SWAPS", "20"))
"""100 take minutes: `SWAPS=100 scripts/test tests/processes/test_rolling_updates.py`."""

CONNECTIONS = 16
GROWTH_MAX_BYTES = 1024 * 1024

NUMBERED = """
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/tiny")
    def predict(records_df: Row.DataFrame):
        return records_df["x"] * 0 + NUMBER
"""


class Swapped:
    """A supervisor whose model is swapped; version `n` answers `n`.

    Attributes:
        dropped: n → when it was dropped (monotonic).
        routed: n → when every front door had it, at the latest.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.supervised = Supervised(folder, stable_for_s=0.05, **settings)
        self.dropped: dict[int, float] = {}
        self.routed: dict[int, float] = {}
        self.drop(0)

    def file(self, number: int) -> Path:
        """Every third release replaces the content of the one before under the same name and version."""
        return self.supervised.dist / f"tiny-{self.version(number)}.pex"

    def version(self, number: int) -> str:
        return f"0.1.{number - (number % 3 == 2)}"

    def drop(self, number: int) -> None:
        self.dropped[number] = time.monotonic()
        write_tiny(self.file(number), "tiny", self.version(number), NUMBERED.replace("NUMBER", str(number)))

    def swap(self, number: int) -> None:
        """Until every front door has it and the file before is gone."""
        self.drop(number)
        digest = self.digest_of(number)
        self.supervised.until(lambda: self.serving() == [digest])
        self.routed[number] = time.monotonic()
        if self.file(number) != self.file(number - 1):
            self.file(number - 1).unlink()

    def digest_of(self, number: int) -> str:
        return hashlib.sha256(self.file(number).read_bytes()).hexdigest()

    def serving(self) -> list[str]:
        """Digests of those that requests go to, in every front door."""
        found = self.supervised.state().get("releases", [])
        return [each["sha256"] for each in found if each["kind"] == "model" and each["state"] == "ready"]

    def at_rest(self) -> bool:
        """One worker is left, or two where the release before is kept."""
        kept = 1 + (self.supervised.settings["rollback_window_s"] > 0)
        return len(self.supervised.children()) == 1 + kept and len(list(self.supervised.run_path.glob("w*.sock"))) == kept

    def is_swept(self) -> bool:
        """Of all releases two are left in the cache at most, each with its locks, and nothing that is being removed."""
        names = [path.name for path in (self.supervised.settings["cache_path"] / "releases").iterdir()]
        folders = [name for name in names if len(name) == 64]
        return len(folders) <= 2 and all(name.partition(".")[0] in folders and not name.endswith((".gone", ".part")) for name in names)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("swaps", "rollback_window_s"), [(SWAPS, 0), (max(6, SWAPS // 5), 600)], ids=["at once", "kept"])
def test_no_request_is_lost_while_a_model_is_swapped(tmp_path: Path, swaps: int, rollback_window_s: int) -> None:
    """Over 16 connections that are kept: every answer is a 200 from a version that was live then; memory is flat, nothing is left."""
    swapped = Swapped(tmp_path, rollback_window_s=rollback_window_s)
    supervised = swapped.supervised
    with supervised:
        supervisor, (door,) = supervised.process.pid, supervised.state()["front_door_pids"]
        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], CONNECTIONS, pause_s=0.005) as load:
            for number in range(1, swaps // 2):
                swapped.swap(number)
            supervised.until(swapped.at_rest)
            before = {pid: (own_bytes(pid), descriptors_of(pid)) for pid in (supervisor, door)}
            for number in range(max(1, swaps // 2), swaps):
                swapped.swap(number)
            supervised.until(swapped.at_rest)
            after = {pid: (own_bytes(pid), descriptors_of(pid)) for pid in (supervisor, door)}
        supervised.until(swapped.is_swept)
        assert supervised.state()["front_door_pids"] == [door]
    others = [answer.body for answer in load.answers if not isinstance(answer.body, dict) or "predictions" not in answer.body]
    assert set(load.statuses) == {200}, others[:3]
    assert_each_was_live(swapped, load)
    for pid in before:
        assert after[pid][0] - before[pid][0] < GROWTH_MAX_BYTES, (pid == door, before, after)
        assert abs(after[pid][1] - before[pid][1]) <= 3, (pid == door, before, after)


def assert_each_was_live(swapped: Swapped, load: Load) -> None:
    """No version answers before it was dropped, nor a request that came after every front door had the next one."""
    seen = set()
    for answer in load.answers:
        (number,) = answer.body["predictions"]  # type: ignore[index]
        seen.add(number)
        assert answer.had > swapped.dropped[number]
        assert number + 1 not in swapped.routed or answer.asked < swapped.routed[number + 1], (number, answer)
    assert seen == set(swapped.dropped)
