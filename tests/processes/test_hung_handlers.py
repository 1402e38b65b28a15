"""Handlers that hang: their requests time out, their worker is replaced, and other requests are served."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from base.ipc.front_door_control import Configure, RoutesDrained, WorkerUnhealthy
from front_harness import Front, Workers, asking
from rawhttp import Raw, post
from supervisor_harness import Supervised, runs
from tinypex import write_tiny

TIMEOUT_S = 2.0

HANGS = """
    import os, time
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/hangs")
    def predict(records_df: pl.DataFrame):
        while (records_df["x"] == 777).any():
            time.sleep(1)
        return [os.getpid()] * records_df.height
"""


@pytest.fixture(name="front")
def _front() -> Iterator[Front]:
    with Front(Configure(request_timeout_s=TIMEOUT_S)) as front:
        yield front


def test_a_hanging_worker_is_reported_to_the_supervisor(make: Workers, front: Front) -> None:
    worker = make("1.0")
    front.table(worker.route("it"))
    assert front.ask([{"x": 1}]).status == 200
    answer = front.ask([{"x": 777}])
    assert (answer.status, answer.json()["code"]) == (504, "deadline_exceeded")
    assert front.until(WorkerUnhealthy) == WorkerUnhealthy(str(worker.path), "it did not answer a request in time, nor afterwards")


def test_requests_behind_a_hanging_one_are_answered_by_the_next_worker(make: Workers) -> None:
    """They reached the hanging worker within its grace period, and are retried."""
    worker, other = make("1.0"), make("1.0")
    other.spec()
    with Front(Configure(request_timeout_s=4 * TIMEOUT_S)) as front:
        front.table(worker.route("it"))
        front.ask([{"x": 1}])
        assert front.ask([{"x": 777}]).status == 504
        with asking(front, [5]) as (behind,):
            front.until(WorkerUnhealthy)
            worker.kill()
            front.table(other.route("it"))
            assert behind.answer().json()["predictions"][0]["x"] == 5.0


def test_a_worker_that_is_merely_late_is_not_replaced(make: Workers, front: Front, tmp_path: Path) -> None:
    """It answers within its grace period of a second. The next request is answered as usual, and nothing is reported."""
    worker = make("1.0", "--gate", tmp_path / "gate")
    front.table(worker.route("it"))
    assert front.ask([{"x": 1}]).status == 504
    (tmp_path / "gate").touch()
    assert front.ask([{"x": 1}]).status == 200
    front.until(RoutesDrained)
    front.control.settimeout(2.0)
    with pytest.raises(TimeoutError):
        front.next_message()
    front.control.settimeout(20)


def test_a_hanging_worker_is_replaced_while_its_sibling_serves(tmp_path: Path) -> None:
    """Only the hanging request and the rest of its batch notice."""
    supervised = Supervised(tmp_path, request_timeout_s=2 * TIMEOUT_S, workers_per_release=2)
    write_tiny(supervised.dist / "hangs.pex", "hangs", module=HANGS)
    with supervised:
        before = supervised.until(lambda: pids if len(pids := supervised.release("hangs.pex")["worker_pids"]) == 2 else None)
        over, answers = threading.Event(), []

        def keep_asking() -> None:
            with Raw(supervised.state()["address"]) as raw:
                while not over.is_set():
                    raw.send(post("/hangs", [{"x": 1}]))
                    answers.append(raw.answer())

        asking = threading.Thread(target=keep_asking)
        asking.start()
        assert supervised.ask("/hangs", 777).status_code == 504
        gone = supervised.until(lambda: [pid for pid in before if not runs(pid)])
        supervised.until(lambda: len(set(supervised.release("hangs.pex")["worker_pids"]) - set(gone)) == 2)
        over.set()
        asking.join()
        late = [answer for answer in answers if answer.status != 200]
        assert len(late) <= 1, "one may have shared the batch that hangs"
        assert all(answer.status == 504 for answer in late)
        assert len(gone) == 1
        assert "did not answer a request in time" in supervised.release("hangs.pex")["reason"]


def test_a_short_client_timeout_does_not_make_a_worker_look_hung(make: Workers) -> None:
    """It expires while the batch is computed, long before a request's own limit may."""
    worker = make("1.0", "--sleep", 2.5)
    with Front(Configure(request_timeout_s=20.0)) as front:
        front.table(worker.route("it"))
        assert front.ask([{"x": 1}], "X-Request-Timeout-Ms: 100").status == 504
        assert front.ask([{"x": 2}]).status == 200
        front.control.settimeout(0.2)
        with pytest.raises(TimeoutError):
            front.until(WorkerUnhealthy)


IGNORES = """
    import asyncio, os
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/ignores", max_concurrency=3)
    async def predict(records_df: pl.DataFrame):
        while (records_df["x"] == 777).any():
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                pass
        RESULT
"""


@pytest.mark.parametrize("result", ["return [os.getpid()] * records_df.height", "yield os.getpid()"])
def test_a_worker_whose_async_calls_ignore_their_cancellation_is_replaced(tmp_path: Path, result: str) -> None:
    """Although it answers other requests meanwhile: two of its three calls are lost. So for a generator before its first part."""
    supervised = Supervised(tmp_path, request_timeout_s=2 * TIMEOUT_S, workers_per_release=1)
    write_tiny(supervised.dist / "ignores.pex", "ignores", module=IGNORES.replace("RESULT", result))
    with supervised:
        before = supervised.until(lambda: supervised.release("ignores.pex")["worker_pids"])
        with Raw(supervised.state()["address"]) as raw:
            for _ in range(2):
                raw.send(post("/ignores", [{"x": 777}], "X-Request-Timeout-Ms: 1500"))
                assert raw.answer().status == 504
        answered = supervised.ask("/ignores", 1)
        assert (answered.status_code, str(before[0]) in answered.text) == (200, True), answered.text

        def is_gone() -> bool:
            supervised.ask("/ignores", 1)
            return not runs(before[0])

        supervised.until(is_gone)
        (after,) = supervised.until(lambda: [pid for pid in supervised.release("ignores.pex")["worker_pids"] if pid not in before])
        supervised.until(lambda: str(after) in supervised.ask("/ignores", 1).text)
        assert "did not answer a request in time" in supervised.release("ignores.pex")["reason"]
