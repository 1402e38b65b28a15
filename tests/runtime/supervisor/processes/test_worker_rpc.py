"""Questions and answers of one worker, whose part the test plays."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from base.errors import DeadlineExceeded, Full, NotFound, Unavailable
from base.ipc import failure
from base.ipc.cache_control import CacheEntries, CacheRefreshed, CacheRequest, CacheRequestRefused, ListCacheEntries, RefreshCache
from runtime.supervisor.processes.worker_rpc import PENDING_MAX, WorkerRpc

LONG_S = 30.0


class Worker:
    """Hears questions, and answers when the test says so."""

    def __init__(self, timeout_s: float = LONG_S) -> None:
        self.received: list[CacheRequest] = []
        self.rpc = WorkerRpc(self.received.append, timeout_s)

    async def send_requests(self, count: int) -> list[asyncio.Task]:
        """Sends `count` requests."""
        tasks = [asyncio.ensure_future(self.rpc.call(ListCacheEntries)) for _ in range(count)]
        await asyncio.sleep(0)
        return tasks


def test_a_response_finds_its_request_by_id_in_any_order() -> None:
    """Two calls at once each get their own response."""

    async def run() -> None:
        worker = Worker()
        first, second = await worker.send_requests(2)
        assert worker.received == [ListCacheEntries(1), ListCacheEntries(2)]
        assert worker.rpc.receive_response(CacheEntries(2, []))
        assert worker.rpc.receive_response(CacheEntries(1, []))
        assert (await first, await second) == (CacheEntries(1, []), CacheEntries(2, []))

    asyncio.run(run())


def test_a_refusal_of_the_worker_is_raised() -> None:
    """The error has the same type as in the worker."""

    async def run() -> None:
        worker = Worker()
        asking = asyncio.ensure_future(worker.rpc.call(lambda number: RefreshCache(number, "other")))
        await asyncio.sleep(0)
        assert worker.rpc.receive_response(CacheRequestRefused(1, msgspec.Raw(failure.encode_error(NotFound("there is no other")))))
        with pytest.raises(NotFound, match="there is no other"):
            await asking

    asyncio.run(run())


def test_a_response_without_a_request_changes_nothing() -> None:
    """A second response changes nothing either."""

    async def run() -> None:
        worker = Worker()
        (asking,) = await worker.send_requests(1)
        assert not worker.rpc.receive_response(CacheRefreshed(2, 1))
        assert worker.rpc.receive_response(CacheEntries(1, []))
        assert not worker.rpc.receive_response(CacheEntries(1, []))
        assert await asking == CacheEntries(1, [])

    asyncio.run(run())


def test_the_exit_of_a_worker_fails_all_calls() -> None:
    """The error has the reason of the exit."""

    async def run() -> None:
        worker = Worker()
        asking = await worker.send_requests(2)
        worker.rpc.close("the worker was killed")
        for each in asking:
            with pytest.raises(Unavailable, match="the worker was killed"):
                await each

    asyncio.run(run())


def test_a_late_response_is_dropped() -> None:
    """The next call gets its own response."""

    async def run() -> None:
        worker = Worker(0.001)
        with pytest.raises(DeadlineExceeded, match="may still carry out"):
            await worker.rpc.call(ListCacheEntries)
        assert worker.rpc.receive_response(CacheEntries(1, []))
        (asking,) = await worker.send_requests(1)
        worker.rpc.receive_response(CacheEntries(2, []))
        assert await asking == CacheEntries(2, [])

    asyncio.run(run())


def test_pending_requests_are_limited() -> None:
    """Requests that the worker has not read are in its socket, even if nobody waits for them any more."""

    async def run() -> None:
        worker = Worker(0.001)
        for each in await worker.send_requests(PENDING_MAX):
            with pytest.raises(DeadlineExceeded):
                await each
        with pytest.raises(Full):
            await worker.rpc.call(ListCacheEntries)
        assert len(worker.received) == PENDING_MAX
        worker.rpc.receive_response(CacheEntries(1, []))
        (asking,) = await worker.send_requests(1)
        assert worker.received[-1] == ListCacheEntries(PENDING_MAX + 1)
        worker.rpc.close("over")
        with pytest.raises(Unavailable):
            await asking

    asyncio.run(run())


def test_a_cancelled_call_affects_no_other() -> None:
    """A client of the admin API may disconnect."""

    async def run() -> None:
        worker = Worker()
        first, second = await worker.send_requests(2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert worker.rpc.receive_response(CacheEntries(1, []))
        worker.rpc.receive_response(CacheEntries(2, []))
        assert await second == CacheEntries(2, [])

    asyncio.run(run())
