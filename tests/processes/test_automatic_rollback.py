"""Automatic rollback while requests wait for the new release, with a real supervisor: no client without fault notices it."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from constant_load import Load
from operated_supervisor import Operated
from rawhttp import Raw, await_read, post
from tinypex import times, write_tiny

PATH = "/tiny"
OLD_SAYS = "[30]"
DEADLY = 666

CRASHES = """
    import os, pathlib, time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/tiny")
    def predict(records_df: Row.DataFrame):
        while (records_df["x"] == 7).any() and not pathlib.Path("FOLDER", "go").exists():
            pathlib.Path("FOLDER", "at").touch()
            time.sleep(0.005)
        if (records_df["x"] == 666).any():
            os._exit(9)
        return records_df["x"] * 20
"""


@pytest.fixture
def operated(tmp_path: Path) -> Operated:
    made = Operated(tmp_path, rollback_window_s=600, probation_s=600, restart_delay_min_s=1.0)
    write_tiny(made.dist / "tiny-0.1.0.pex", "tiny", "0.1.0", times(10, PATH))
    return made


def drop(operated: Operated, folder: Path) -> None:
    write_tiny(operated.dist / "tiny-0.2.0.pex", "tiny", "0.2.0", CRASHES.replace("FOLDER", str(folder)))
    operated.until_state("tiny-0.2.0.pex", "ready")


def model(operated: Operated) -> dict:
    return operated.state()["models"][0]


def test_a_crash_loop_costs_only_poison_requests_their_response(operated: Operated, tmp_path: Path) -> None:
    """From the first crash to the end of the rollback the previous release answers at once, since it is a connected warm standby."""
    with operated:
        address = operated.state()["address"]
        with Load(address, PATH, [{"x": 3}], connections=8, pause_s=0.002) as load:
            drop(operated, tmp_path)
            with Load(address, PATH, [{"x": DEADLY}], connections=1, pause_s=0.1) as deadly:
                operated.until(lambda: model(operated)["taken_back"], 60)
                operated.until(lambda: operated.predictions(PATH, DEADLY) == [10 * DEADLY])
            before = len(load.answers)
            operated.until(lambda: len(load.answers) > before + 100)
        assert set(load.statuses) == {200}, load.statuses
        assert set(load.values()) == {OLD_SAYS, "[60]"}
        assert {str(answer.body["predictions"]) for answer in load.answers[-50:]} == {OLD_SAYS}  # type: ignore[index]
        assert set(deadly.statuses) <= {200, 500}
        assert "of its workers crashed" in model(operated)["taken_back"][0]["reason"]


def test_while_a_release_on_probation_has_no_worker_the_previous_one_answers_and_that_is_shown(operated: Operated, tmp_path: Path) -> None:
    """Readiness stays true; the previous version cannot be requested, since it does not serve; the new one is back with its worker."""
    operated.settings["restart_delay_min_s"] = 4  # everything in between is seen in this time
    with operated:
        drop(operated, tmp_path)
        assert operated.predictions(PATH) == [60]
        os.kill(operated.release("tiny-0.2.0.pex")["worker_pids"][0], signal.SIGKILL)
        operated.until(lambda: "0.1.0 answers while 0.2.0 has no worker" in model(operated)["remarks"])
        assert operated.predictions(PATH) == [30]
        assert operated.is_ready()
        with Raw(operated.state()["address"]) as raw:
            raw.send(post(PATH, [{"x": 3}], "X-Pexdock-Version: 0.1.0"))
            assert raw.answer().status == 404
            raw.send(post(PATH, [{"x": 3}], "X-Pexdock-Version: 0.2.0"))
            assert raw.answer().status == 503
        operated.until(lambda: operated.predictions(PATH) == [60])
        operated.until(lambda: model(operated)["remarks"] == [])
        assert model(operated)["probation"][0]["deaths"] == 1


def test_requests_that_wait_during_a_rollback_are_answered_by_the_previous_release(operated: Operated, tmp_path: Path) -> None:
    """One crash is enough here. Requests that the dying worker had begun are retried one by one, the others as they are."""
    operated.settings["probation_crashes_max"] = 1
    with operated, ExitStack() as stack:
        drop(operated, tmp_path)
        address = operated.state()["address"]
        raws = [stack.enter_context(Raw(address)) for _ in range(8)]
        raws[0].send(post(PATH, [{"x": 7}]))
        operated.until((tmp_path / "at").exists)
        for raw, x in zip(raws[1:], (1, DEADLY, 2, 3, 4, 5, 6), strict=True):
            raw.send(post(PATH, [{"x": x}]))
        await_read(address, PATH)
        (tmp_path / "go").touch()
        answers = [raw.answer() for raw in raws]
        assert [answer.status for answer in answers] == [200] * 8, answers
        said = [answer.json()["predictions"][0] for answer in answers]
        assert said[0] == 7 * 20
        assert said[2] == DEADLY * 10
        assert all(value in {10 * x, 20 * x} for value, x in zip(said[3:], (2, 3, 4, 5, 6), strict=True))
        operated.until(lambda: model(operated)["taken_back"])
