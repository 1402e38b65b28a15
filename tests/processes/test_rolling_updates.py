"""A model that is replaced repeatedly under constant load: no request is lost, no response is stale, nothing grows or is left over."""

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
GROWTH_MAX_BYTES = 2 * 1024 * 1024
"""The supervisor takes 1.2 to 1.7 MB in the second half, whether that is 30 or 50 replacements. What each of them would leave
behind if it were not freed is more."""

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


class ReplacedModel:
    """A supervisor whose model is replaced; version `n` answers `n`.

    Attributes:
        dropped: Time (monotonic) at which each version was put into dist/.
        routed: Latest time at which every front door had each version.
    """

    def __init__(self, folder: Path, **settings: object) -> None:
        self.supervised = Supervised(folder, stable_for_s=0.05, **settings)
        self.dropped: dict[int, float] = {}
        self.routed: dict[int, float] = {}
        self.drop(0)

    def file(self, number: int) -> Path:
        """Returns the file of a version. Every third release replaces the content of the previous one under the same name and version."""
        return self.supervised.dist / f"tiny-{self.version(number)}.pex"

    def version(self, number: int) -> str:
        return f"0.1.{number - (number % 3 == 2)}"

    def drop(self, number: int) -> None:
        self.dropped[number] = time.monotonic()
        write_tiny(self.file(number), "tiny", self.version(number), NUMBERED.replace("NUMBER", str(number)))

    def replace_model(self, number: int) -> None:
        """Replaces the model and waits until every front door has the version and the previous file is gone."""
        self.drop(number)
        digest = self.digest_of(number)
        self.supervised.until(lambda: self.serving() == [digest])
        self.routed[number] = time.monotonic()
        if self.file(number) != self.file(number - 1):
            self.file(number - 1).unlink()

    def digest_of(self, number: int) -> str:
        return hashlib.sha256(self.file(number).read_bytes()).hexdigest()

    def serving(self) -> list[str]:
        """Returns the digests of the releases that get requests in every front door."""
        found = self.supervised.state().get("releases", [])
        return [each["sha256"] for each in found if each["kind"] == "model" and each["state"] == "ready"]

    def at_rest(self) -> bool:
        """Returns whether one worker is left, or two while the previous release is a warm standby."""
        kept = 1 + (self.supervised.settings["rollback_window_s"] > 0)
        return len(self.supervised.children()) == 1 + kept and len(list(self.supervised.run_path.glob("w*.sock"))) == kept

    def is_swept(self) -> bool:
        """Returns whether the cache has at most two releases, each with its locks, and nothing that is being removed."""
        names = [path.name for path in (self.supervised.settings["cache_path"] / "releases").iterdir()]
        folders = [name for name in names if len(name) == 64]
        return len(folders) <= 2 and all(name.partition(".")[0] in folders and not name.endswith((".gone", ".part")) for name in names)


@pytest.mark.timeout(1500)
@pytest.mark.parametrize(("swaps", "rollback_window_s"), [(SWAPS, 0), (max(6, SWAPS // 5), 600)], ids=["at once", "kept"])
def test_no_request_is_lost_while_a_model_is_replaced(tmp_path: Path, swaps: int, rollback_window_s: int) -> None:
    """On 16 kept connections every response is a 200 from a version that was live then. Memory stays flat, and nothing is left over."""
    swapped = ReplacedModel(tmp_path, rollback_window_s=rollback_window_s)
    supervised = swapped.supervised
    with supervised:
        supervisor, (door,) = supervised.process.pid, supervised.state()["front_door_pids"]
        with Load(supervised.state()["address"], "/tiny", [{"x": 3}], CONNECTIONS, pause_s=0.005) as load:
            for number in range(1, swaps // 2):
                swapped.replace_model(number)
            supervised.until(lambda: swapped.at_rest() and swapped.is_swept())  # a sweep in progress has folders open
            before = {pid: (own_bytes(pid), descriptors_of(pid)) for pid in (supervisor, door)}
            for number in range(max(1, swaps // 2), swaps):
                swapped.replace_model(number)
            supervised.until(lambda: swapped.at_rest() and swapped.is_swept())  # a sweep in progress has folders open
            after = {pid: (own_bytes(pid), descriptors_of(pid)) for pid in (supervisor, door)}
        assert supervised.state()["front_door_pids"] == [door]
    others = [answer.body for answer in load.answers if not isinstance(answer.body, dict) or "predictions" not in answer.body]
    assert set(load.statuses) == {200}, others[:3]
    assert_each_was_live(swapped, load)
    for pid in before:
        assert after[pid][0] - before[pid][0] < GROWTH_MAX_BYTES, (pid == door, before, after)
        assert abs(after[pid][1] - before[pid][1]) <= 3, (pid == door, before, after)


def assert_each_was_live(swapped: ReplacedModel, load: Load) -> None:
    """Asserts that no version answers before it was put into dist/, nor a request sent after every front door had the next one."""
    seen = set()
    for answer in load.answers:
        (number,) = answer.body["predictions"]  # type: ignore[index]
        seen.add(number)
        assert answer.had > swapped.dropped[number]
        assert number + 1 not in swapped.routed or answer.asked < swapped.routed[number + 1], (number, answer)
    assert seen == set(swapped.dropped)
