"""Kills in the middle of a traffic shift, which one of two front doors delays, and while the previous release still answers. Under load."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from rawhttp import Raw, await_read, post
from rollout_harness import NEW_SAYS, OLD_SAYS, Rollout
from supervisor_harness import runs
from tinypex import write_tiny

GATED = """
    import pathlib, time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/tiny/{key}")
    def predict(key, records_df: Row.DataFrame):
        if FACTOR == 10 and key == "slow":
            pathlib.Path("FOLDER", "at").touch()
            while not pathlib.Path("FOLDER", "go").exists():
                time.sleep(0.01)
        return records_df["x"] * FACTOR
"""

WAITING = 5


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


AT_THE_FLIP: dict[str, tuple[dict[str, object], set[int]]] = {
    "front door that has it": ({}, {0, 200}),
    "front door that has it not": ({}, {0, 200}),
    "new worker": ({}, {200, 503}),
    "new worker on probation": ({"probation_s": 600}, {200}),
    "old worker": ({}, {200, 503}),
    "old worker that is kept": ({"rollback_window_s": 600}, {200, 503}),
}
"""Who is killed, with which settings, and what clients may see (0: their connection broke).

The front door that hangs sends what comes to the old release until it has read of the flip, and without its worker that is a 503.
"""


@pytest.mark.parametrize("who", AT_THE_FLIP)
def test_a_kill_in_the_middle_of_a_traffic_shift_costs_only_requests_of_the_killed_process(tmp_path: Path, who: str) -> None:
    """One front door sends requests to the new release, the other does not know it yet. In the end both do, and nothing else is left."""
    settings, statuses = AT_THE_FLIP[who]
    rollout = Rollout(tmp_path, **{"rollback_window_s": 0, "probation_s": 0, "front_doors": 2} | settings)
    operated = rollout.operated
    with operated, rollout.load() as load:
        rollout.until_answers(load, OLD_SAYS)
        old, first = rollout.pid("tiny-0.1.0.pex"), operated.state()["front_door_pids"][0]
        hanging = rollout.hang_front_door()
        rollout.drop()
        rollout.until_published()
        new = rollout.pid("tiny-0.2.0.pex")
        kill({"front door that has it": first, "front door that has it not": hanging}.get(who, new if who.startswith("new") else old))
        if who != "front door that has it not":
            os.kill(hanging, signal.SIGCONT)
        operated.until(lambda: operated.state()["applied"] == operated.state()["generation"])
        rollout.until_answers(load, NEW_SAYS)
        rollout.assert_nothing_is_left(workers=2 if settings else 1)
    assert set(load.statuses) <= statuses, load.statuses
    assert set(load.values()) <= {OLD_SAYS, NEW_SAYS}
    assert load.statuses[0] <= 8


def test_a_supervisor_killed_in_the_middle_of_a_traffic_shift_leaves_no_front_door_behind(tmp_path: Path) -> None:
    """Workers end with it, and front doors once they have answered. The next supervisor works however far the last one had come."""
    rollout = Rollout(tmp_path, front_doors=2)
    with rollout.operated:
        with rollout.load() as load:
            rollout.until_answers(load, OLD_SAYS)
            rollout.hang_front_door()
            rollout.drop()
            rollout.until_published()
            rollout.restart()
        rollout.operated.until(rollout.operated.is_ready)
        with rollout.load() as after:
            rollout.until_answers(after, NEW_SAYS)
            rollout.assert_nothing_is_left(workers=1)
    assert set(load.values()) <= {OLD_SAYS, NEW_SAYS}
    assert load.statuses[0] <= 8
    assert set(after.statuses) == {200}


class Ending:
    """A state in which 0.1.0 computes one request, more wait for it, and 0.2.0 has taken over."""

    def __init__(self, folder: Path) -> None:
        self.rollout = Rollout(folder, rollback_window_s=0, probation_s=0, drain_s=30)
        self._write("0.1.0", 10)

    def _write(self, version: str, factor: int) -> None:
        module = GATED.replace("FOLDER", str(self.rollout.held)).replace("FACTOR", str(factor))
        write_tiny(self.rollout.operated.dist / f"tiny-{version}.pex", "tiny", version, module)

    def send_requests(self, stack: ExitStack) -> list[Raw]:
        """Returns connections whose requests the front door has, the first of which is being computed."""
        address = self.rollout.operated.state()["address"]
        raws = [stack.enter_context(Raw(address)) for _ in range(1 + WAITING)]
        raws[0].send(post("/tiny/slow", [{"x": 3}]))
        self.rollout.until_held()
        for raw in raws[1:]:
            raw.send(post("/tiny/a", [{"x": 3}]))
        await_read(address, "/tiny/a")
        return raws

    def flip(self) -> None:
        operated = self.rollout.operated
        self._write("0.2.0", 20)
        operated.until_state("tiny-0.2.0.pex", "ready")
        operated.until(lambda: operated.state()["applied"] == operated.state()["generation"])


def responses_of(raws: Sequence[Raw]) -> list[str]:
    """Returns the response to each request; none where its connection broke."""
    found = []
    for raw in raws:
        try:
            answer = raw.answer()
        except (EOFError, ConnectionError):
            found.append("")
        else:
            found.append(str(answer.json()["predictions"]) if answer.status == 200 else str(answer.status))
    return found


def test_requests_of_an_ending_release_are_answered_although_its_worker_is_killed(tmp_path: Path) -> None:
    """The next release answers what the killed worker computed and what it had not begun."""
    assert ended(tmp_path, lambda ending, old: kill(old)) == [NEW_SAYS] * (1 + WAITING)


def test_requests_of_an_ending_release_are_answered_although_the_next_one_is_killed(tmp_path: Path) -> None:
    def fault(ending: Ending, _: int) -> None:
        kill(ending.rollout.pid("tiny-0.2.0.pex"))
        ending.rollout.let_go()

    assert ended(tmp_path, fault) == [OLD_SAYS] * (1 + WAITING)


def test_a_killed_front_door_takes_its_connections_and_the_ending_release_with_it(tmp_path: Path) -> None:
    """No client waits for a response that cannot come."""

    def fault(ending: Ending, _: int) -> None:
        kill(ending.rollout.operated.state()["front_door_pids"][0])
        ending.rollout.let_go()

    assert ended(tmp_path, fault) == [""] * (1 + WAITING)


def test_a_killed_supervisor_takes_the_ending_release_with_it_and_the_next_knows_which_serves(tmp_path: Path) -> None:
    """All processes end, including those that compute; their requests end with a 503 or a broken connection."""

    def fault(ending: Ending, _: int) -> None:
        ending.rollout.restart()
        ending.rollout.operated.until(ending.rollout.operated.is_ready)

    told = ended(tmp_path, fault)
    assert set(told) <= {"", "503", NEW_SAYS, OLD_SAYS}


def ended(folder: Path, fault: Callable[[Ending, int], None]) -> list[str]:
    """Returns the responses to the waiting requests when `fault` hits an ending release. Afterwards only the new release serves."""
    ending = Ending(folder)
    rollout, operated = ending.rollout, ending.rollout.operated
    with operated:
        old = rollout.pid("tiny-0.1.0.pex")
        with ExitStack() as stack:
            raws = ending.send_requests(stack)
            ending.flip()
            assert runs(old)
            fault(ending, old)
            told = responses_of(raws)
        operated.until(lambda: not runs(old))
        with rollout.load() as load:
            rollout.until_answers(load, NEW_SAYS)
            rollout.assert_nothing_is_left(workers=1)
    assert set(load.statuses) <= {200, 503}
    return told
