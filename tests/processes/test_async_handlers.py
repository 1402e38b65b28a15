"""Async handlers: called concurrently, on one loop that runs on between requests."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import json
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from supervisor_harness import Supervised
from tinypex import write_tiny


class Row(Schema):
    x: pl.Int64


class Calls:
    """The calls that run now, and the largest number of them so far."""

    def __init__(self) -> None:
        self.now = self.most = self.done = 0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            yield
            self.done += 1
        finally:
            self.now -= 1


CALLS: dict[str, Calls] = {}
TICKS: list[float] = []
PLACE: contextvars.ContextVar[int] = contextvars.ContextVar("PLACE", default=0)


async def until(condition: str, name: str, wanted: int) -> None:
    while getattr(CALLS[name], condition) < wanted:  # noqa: ASYNC110 - several loops may wait, one after the other
        await asyncio.sleep(0.005)


@svc.endpoint("/meets/{count}", batch_max_size=1)
async def meets(records_df: Row.DataFrame, count: int) -> pl.Series:
    """Answers once so many calls run at the same time."""
    with CALLS["meets"].running():
        PLACE.set(records_df["x"][0])
        await until("most", "meets", count)
        assert PLACE.get() == records_df["x"][0], "the context is another call's"
        return records_df["x"] * 2


@svc.endpoint("/two", max_concurrency=2, batch_max_size=4, batch_check=False)
async def two(records_df: Row.DataFrame) -> pl.Series:
    with CALLS["two"].running():
        await asyncio.sleep(0.05)
        return records_df["x"] * 3


@svc.endpoint("/leaves", batch_check=False)
async def leaves(records_df: Row.DataFrame) -> pl.Series:
    """Leaves a task behind that goes on between requests, and one that fails."""

    async def tick() -> None:
        while True:
            TICKS.append(time.monotonic())
            await asyncio.sleep(0.01)

    async def fail() -> None:
        await asyncio.sleep(0)
        raise OSError("the task failed")

    leaves_behind.update(asyncio.create_task(each()) for each in (tick, fail))
    return records_df["x"]


leaves_behind: set[asyncio.Task[None]] = set()


@svc.endpoint("/late", batch_max_size=1)
async def late(records_df: Row.DataFrame) -> pl.Series:
    with CALLS["late"].running():
        if records_df["x"][0] == 1:  # ignores its cancellation once
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(600)
        if records_df["x"][0] <= 1:
            await asyncio.sleep(0 if records_df["x"][0] else 600)
        return records_df["x"]


@svc.endpoint("/stuck", max_concurrency=1, batch_check=False)
async def stuck(records_df: Row.DataFrame) -> pl.Series:
    """Waits for ever, at first for one request, then for a batch of those that came meanwhile."""
    with CALLS["stuck"].running():
        await asyncio.sleep(0 if 7 in records_df["x"] else 600)
        return records_df["x"]


@svc.endpoint("/cancelled", batch_check=False)
async def cancelled(records_df: Row.DataFrame, context: svc.Context) -> pl.Series:
    with CALLS["cancelled"].running():
        await asyncio.sleep(600)
        return records_df["x"]


@svc.endpoint("/raises", batch_max_size=1)
async def raises(records_df: Row.DataFrame) -> pl.Series:
    await asyncio.sleep(0)
    if records_df["x"][0] == 0:
        raise asyncio.CancelledError
    raise ValueError("the reason")


@svc.endpoint("/divided", batch_max_size=3, batch_check=False)
async def divided(records_df: Row.DataFrame) -> pl.Series:
    await asyncio.sleep(0)
    assert len(records_df) <= 3
    return records_df["x"] * 5


@svc.endpoint("/streams/{count}")
async def streams(records_df: Row.DataFrame, count: int) -> AsyncIterator[dict[str, int]]:
    """Sends its second part once so many streams have sent their first one."""
    with CALLS["streams"].running():
        yield {"x": records_df["x"][0]}
        await until("most", "streams", count)
        yield {"x": -records_df["x"][0]}


@svc.endpoint("/slow-streams/{count}")
async def slow_streams(records_df: Row.DataFrame, count: int) -> AsyncIterator[dict[str, int]]:
    """Sends its only part once so many streams wait to do so."""
    with CALLS["streams"].running():
        await until("most", "streams", count)
        yield {"x": records_df["x"][0]}


@svc.endpoint("/plain", batch_check=False)
def plain(records_df: Row.DataFrame) -> pl.Series:
    """Runs a loop of its own, as code that is not async may."""
    return asyncio.run(seven()) * records_df["x"]


async def seven() -> int:
    await asyncio.sleep(0)
    return 7


ENDPOINTS = (meets, two, leaves, late, stuck, cancelled, raises, divided, streams, slow_streams, plain)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(*ENDPOINTS) as client:
        CALLS["meets"] = Calls()
        client.post("/plain", json=[{"x": 1}])  # makes the first segment
        yield client


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.update({name: Calls() for name in ("meets", "two", "late", "stuck", "cancelled", "streams")})


def ask_all(client: TestClient, path: str, count: int, **headers: str) -> list[object]:
    """Returns the predictions of requests that are sent side by side, or their statuses."""

    def ask(x: int) -> object:
        reply = client.post(path, json=[{"x": x}], headers={name.replace("_", "-"): value for name, value in headers.items()})
        return reply.json()["predictions"][0] if reply.status == 200 else reply.status

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(ask, range(count)))


def wait_for(condition: object, deadline_s: float = 30.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.01)


def test_calls_run_side_by_side_up_to_their_limit(client: TestClient) -> None:
    """16 calls wait for each other, each with a context of its own; this would take forever if they ran one by one."""
    assert ask_all(client, "/meets/16", 16) == [2 * x for x in range(16)]
    assert CALLS["meets"].most == 16


def test_the_author_sets_the_limit_and_the_rest_is_batched(client: TestClient) -> None:
    """Never more than two calls, and requests that wait for them share batches."""
    assert ask_all(client, "/two", 30) == [3 * x for x in range(30)]
    assert CALLS["two"].most == 2
    assert CALLS["two"].done < 30


def test_other_handlers_answer_meanwhile(client: TestClient) -> None:
    """While all calls that may run wait for something."""
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask_all, client, "/meets/5", 4)
        wait_for(lambda: CALLS["meets"].now == 4)
        assert client.post("/plain", json=[{"x": 6}]).json()["predictions"] == [42]
        assert client.post("/meets/5", json=[{"x": 9}]).json()["predictions"] == [18]
        assert waiting.result() == [0, 2, 4, 6]


def test_tasks_go_on_between_requests_and_their_errors_are_logged(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody sends a request meanwhile."""
    with caplog.at_level(logging.ERROR):
        assert client.post("/leaves", json=[{"x": 1}]).status == 200
        before = len(TICKS)
        wait_for(lambda: len(TICKS) > before + 20)
        failed = [task for task in leaves_behind if task.done()]
        assert len(failed) == 1
        leaves_behind.difference_update(failed)
        del failed
        wait_for(lambda: "the task failed" in caplog.text)


def test_a_call_ends_at_its_deadline(client: TestClient) -> None:
    """It is cancelled; one that ignores that is answered all the same, and both free their places."""
    for x in (0, 1):
        reply = client.post("/late", json=[{"x": x}], headers={"x-request-timeout-ms": "300"})
        assert reply.status == 504
    wait_for(lambda: CALLS["late"].now == 0)
    assert client.post("/late", json=[{"x": 7}]).json()["predictions"] == [7]


def test_a_batch_for_which_nobody_waits_any_more_is_cancelled(client: TestClient) -> None:
    """Once all of its requests are answered, since the others must not pay for the shortest deadline among them."""
    with ThreadPoolExecutor(2) as threads:
        alone = [threads.submit(client.post, "/stuck", [{"x": 0}], None, {"x-request-timeout-ms": "1000"}) for _ in range(2)]
        wait_for(lambda: CALLS["stuck"].now == 1)
        assert ask_all(client, "/stuck", 4, x_request_timeout_ms="4000") == [504] * 4
        assert [each.result().status for each in alone] == [504, 504]
    wait_for(lambda: CALLS["stuck"].now == 0)
    assert client.post("/stuck", json=[{"x": 7}]).json()["predictions"] == [7]


@pytest.mark.parametrize(("path", "name"), [("/cancelled", "cancelled"), ("/slow-streams/99", "streams")])
def test_a_call_is_cancelled_when_its_client_disconnects(client: TestClient, path: str, name: str) -> None:
    """For handlers with one request each: those with a context, and streams, even before their first part."""
    host, port = client.address.removeprefix("http://").split(":")
    body = b'[{"x": 1}]'
    with socket.create_connection((host, int(port))) as sock:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        wait_for(lambda: CALLS[name].now == 1)
    wait_for(lambda: CALLS[name].now == 0)
    assert CALLS[name].done == 0
    assert client.post("/plain", json=[{"x": 1}]).json()["predictions"] == [7]


def test_an_error_of_one_call_ends_no_other(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """A handler that raises CancelledError by itself has failed, too."""
    assert ask_all(client, "/raises", 6) == [500] * 6
    assert "the reason" in caplog.text
    assert "CancelledError" in caplog.text
    assert client.post("/plain", json=[{"x": 1}]).json()["predictions"] == [7]


def test_a_large_request_is_divided(client: TestClient) -> None:
    """Its calls follow each other."""
    assert client.post("/divided", json=[{"x": x} for x in range(10)]).json()["predictions"] == [5 * x for x in range(10)]


def test_streams_go_on_side_by_side(client: TestClient) -> None:
    """Each has two parts, and the second one waits for the first parts of all; or one part, which waits for all streams to begin."""

    def lines(x: int) -> list[dict[str, int]]:
        with client.stream("/streams/6", json=[{"x": x}]) as streamed:
            return [json.loads(line) for line in b"".join(streamed).splitlines()]

    def slow_lines(x: int) -> list[bytes]:
        with client.stream("/slow-streams/6", json=[{"x": x}]) as streamed:
            return b"".join(streamed).splitlines()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(lines, range(6))) == [[{"x": x}, {"x": -x}] for x in range(6)]
        wait_for(lambda: CALLS["streams"].done == 6)
        CALLS["streams"] = Calls()
        assert [len(found) for found in threads.map(slow_lines, range(6))] == [1] * 6


def test_a_stream_is_closed_when_its_client_disconnects(client: TestClient) -> None:
    """Even while its next part is awaited."""
    with client.stream("/streams/99", json=[{"x": 1}]) as streamed:
        next(iter(streamed))
        wait_for(lambda: CALLS["streams"].now == 1)
    wait_for(lambda: CALLS["streams"].now == 0)
    assert CALLS["streams"].done == 0


def test_a_server_with_running_tasks_stops() -> None:
    """What is accepted is answered; tasks that were left behind are cancelled."""
    CALLS["meets"] = Calls()
    before, of_others = threading.active_count(), set(leaves_behind)
    with TestClient(*ENDPOINTS) as client:
        assert client.post("/leaves", json=[{"x": 1}]).status == 200
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.post, "/meets/2", [{"x": 5}])
            wait_for(lambda: CALLS["meets"].now == 1)
            client._server._session.drain()
            CALLS["meets"].most = 2  # so that it goes on
            assert waiting.result().json()["predictions"] == [10]
    wait_for(lambda: threading.active_count() <= before)
    ticking, failed = sorted(leaves_behind - of_others, key=lambda task: not task.cancelled())
    assert ticking.cancelled()
    assert isinstance(failed.exception(), OSError)


EXITS = """
import asyncio, os
import polars as pl
import base.service as svc

@svc.endpoint(path="/exits", batch_max_size=1)
async def predict(records_df: pl.DataFrame):
    await asyncio.sleep(0.2)
    if records_df["x"][0] == 3:
        os._exit(1)
    await asyncio.sleep(0.8)
    return records_df["x"] * 2
"""


def test_a_call_that_ends_the_worker_is_found_among_those_that_ran_with_it(tmp_path: Path) -> None:
    """The others are computed by the next worker; each suspect runs alone there, so none of them is blamed."""
    supervised = Supervised(tmp_path, restart_delay_min_s=0.05)
    write_tiny(supervised.dist / "exits.pex", "exits", module=EXITS)
    with supervised, ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda x: supervised.ask("/exits", x, timeout_s=55), range(8)))
    assert [reply.status_code for reply in replies] == [200, 200, 200, 500, 200, 200, 200, 200]
    assert [reply.json()["predictions"] for reply in replies if reply.status_code == 200] == [[2 * x] for x in range(8) if x != 3]
    assert "worker" in replies[3].json()["detail"]
