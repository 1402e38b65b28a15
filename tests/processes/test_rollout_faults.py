"""Faults at each step of a rollout: real pexes under load, real kills.

The expected behaviour is in docs/operations/releasing.md.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from constant_load import Load
from rollout_harness import NEW_SAYS, OLD, OLD_SAYS, THIRD_SAYS, Rollout, kill_front_door, kill_worker
from supervisor_harness import runs
from tinypex import write_tiny


def replace(rollout: Rollout) -> None:
    write_tiny(rollout.new, "tiny", "0.2.0", OLD(30))


def delete(rollout: Rollout) -> None:
    rollout.new.unlink()


FAULTS: list[tuple[str, Callable[[Rollout], None], set[int], str]] = [
    ("import", kill_worker, {200}, NEW_SAYS),
    ("load", kill_worker, {200}, NEW_SAYS),
    ("warm-up", kill_worker, {200}, NEW_SAYS),
    ("warm-up", kill_front_door, {0, 200}, NEW_SAYS),
    ("import", replace, {200}, THIRD_SAYS),
    ("warm-up", replace, {200}, THIRD_SAYS),
    ("warm-up", delete, {200}, NEW_SAYS),
]
"""In which step what happens, which statuses clients may see (0: their connection broke), and what serves in the end."""


@pytest.mark.parametrize(("step", "fault", "statuses", "says"), FAULTS, ids=[f"{fault.__name__} in {step}" for step, fault, _, _ in FAULTS])
def test_a_fault_before_a_release_is_ready_costs_nothing(
    tmp_path: Path, step: str, fault: Callable[[Rollout], None], statuses: set[int], says: str
) -> None:
    """Serving goes on, and so does the rollout."""
    rollout = Rollout(tmp_path, rollback_window_s=0, probation_s=0)
    with rollout.operated, rollout.load() as load:
        rollout.drop(step)
        rollout.until_held()
        fault(rollout)
        if says == NEW_SAYS:
            rollout.until_answers(load, OLD_SAYS)
            rollout.let_go()
        rollout.until_answers(load, says)
        rollout.assert_nothing_is_left(workers=1)
    assert set(load.statuses) <= statuses, load.statuses
    assert set(load.values()) <= {OLD_SAYS, says}
    assert load.statuses[0] <= 8


@pytest.mark.parametrize("step", ["import", "warm-up"])
def test_a_killed_supervisor_comes_back_with_the_serving_release_and_goes_on(tmp_path: Path, step: str) -> None:
    """The new release is not ready by then either, and answers nothing before it is."""
    rollout = Rollout(tmp_path)
    with rollout.operated:
        rollout.drop(step)
        rollout.until_held()
        (rollout.held / "at").unlink()
        rollout.restart()
        with rollout.load() as load:
            rollout.until_held()
            rollout.until_answers(load, OLD_SAYS)
            rollout.let_go()
            rollout.until_answers(load, NEW_SAYS)
    assert set(load.values()) == {OLD_SAYS, NEW_SAYS}


@pytest.mark.parametrize("delay_s", [0.0, 0.3, 0.7, 1.2])
def test_a_supervisor_killed_at_any_step_leaves_nothing_half_done(tmp_path: Path, delay_s: float) -> None:
    """It is killed while a file becomes stable, is copied, checked and unpacked, and while its worker starts.

    The next supervisor reaches the same end.
    """
    rollout = Rollout(tmp_path, stable_for_s=0.1)
    with rollout.operated:
        rollout.drop()
        time.sleep(delay_s)
        rollout.restart()
        with rollout.load() as load:
            rollout.until_answers(load, NEW_SAYS)
        releases = rollout.operated.settings["cache_path"] / "releases"
        rollout.operated.until(lambda: not list(releases.glob("*.part")))
        assert len([path for path in releases.iterdir() if len(path.name) == 64]) == 2


def test_faults_during_probation_are_handled(tmp_path: Path) -> None:
    """One crash is tolerated; a killed supervisor continues the probation; a removed file stops nothing."""
    rollout = Rollout(tmp_path, rollback_window_s=600, probation_s=600)
    operated = rollout.operated
    with operated:
        with rollout.load() as load:
            rollout.drop()
            rollout.until_answers(load, NEW_SAYS)
        operated.until(lambda: operated.state()["models"][0]["probation"])
        with rollout.load() as load:
            kill_front_door(rollout)
            operated.until(lambda: load.statuses[200] > 50)
            kill_worker(rollout)
            rollout.until_answers(load, NEW_SAYS)
        operated.until(lambda: operated.state()["models"][0]["probation"][0]["deaths"] == 1)
        rollout.restart()
        with rollout.load() as load:
            rollout.until_answers(load, NEW_SAYS)
            operated.until(lambda: operated.state()["models"][0]["probation"])
            rollout.new.unlink()
            rollout.until_answers(load, NEW_SAYS)
        assert operated.state()["models"][0]["taken_back"] == []


@pytest.mark.parametrize("fault", ["worker", "front door", "supervisor", "deleted"])
def test_a_standby_can_be_rolled_back_to_whatever_happened_to_it(tmp_path: Path, fault: str) -> None:
    """It takes over at once if it is still warm, and after a start if not."""
    rollout = Rollout(tmp_path, rollback_window_s=600, probation_s=0)
    operated = rollout.operated
    with operated:
        with rollout.load() as load:
            rollout.drop()
            rollout.until_answers(load, NEW_SAYS)
        pid = operated.until_state("tiny-0.1.0.pex", "kept")["worker_pids"][0]
        match fault:
            case "worker":
                os.kill(pid, signal.SIGKILL)
                operated.until_state("tiny-0.1.0.pex", "restarting")
            case "front door":
                kill_front_door(rollout)
            case "supervisor":
                rollout.restart()
                operated.until(operated.is_ready)
            case "deleted":
                (operated.dist / "tiny-0.1.0.pex").unlink()
        with rollout.load() as load:
            rollout.until_answers(load, NEW_SAYS)
            assert operated.admin.post("/models/tiny/rollback").status_code == 200
            rollout.until_answers(load, OLD_SAYS)
        assert set(load.statuses) <= {0, 200}
        rollout.assert_nothing_is_left(workers=1)


SLOW = """
    import pathlib, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/tiny/{key}")
    def predict(key, records_df: pl.DataFrame):
        if key == "slow":
            pathlib.Path("FOLDER", "at").touch()
            while not pathlib.Path("FOLDER", "go").exists():
                time.sleep(0.01)
        return records_df["x"] * 10
"""


@pytest.mark.parametrize("fault", ["none", "front door", "worker", "new worker"])
def test_a_draining_release_ends_whatever_happens(tmp_path: Path, fault: str) -> None:
    """Its accepted requests are answered, unless the answering process is killed; new requests go to the new release."""
    rollout = Rollout(tmp_path, rollback_window_s=0, probation_s=0, drain_s=30)
    operated = rollout.operated
    write_tiny(operated.dist / "tiny-0.1.0.pex", "tiny", module=SLOW.replace("FOLDER", str(rollout.held)))
    with operated:
        old = rollout.pid("tiny-0.1.0.pex")
        with Load(operated.state()["address"], "/tiny/slow", [{"x": 3}], connections=1, pause_s=600) as slow:
            rollout.until_held()
            rollout.drop()
            operated.until(lambda: operated.state()["models"][0]["serves"][0]["version"] == "0.2.0")
            operated.until_state("tiny-0.2.0.pex", "ready")
            with rollout.load() as load:
                rollout.until_answers(load, NEW_SAYS)
                assert runs(old)
                match fault:
                    case "front door":
                        kill_front_door(rollout)
                    case "worker":
                        os.kill(old, signal.SIGKILL)
                    case "new worker":
                        kill_worker(rollout)
                rollout.let_go()
                operated.until(lambda: not runs(old))
                rollout.until_answers(load, NEW_SAYS)
            rollout.assert_nothing_is_left(workers=1)
        first = slow.answers[0]
    assert first.status in {"none": {200}, "new worker": {200}, "front door": {0}, "worker": {200, 503}}[fault]
