"""Runs blocking work of the supervisor on threads, so that its event loop waits for none of it."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BlockingThreads:
    """Runs blocking calls on threads that do not keep the process alive, so the calls must be safe to cut off at any point.

    `concurrent.futures` would wait at exit, for example half a minute until a pex is unpacked.

    Args:
        parallel: Number of calls at a time.
    """

    def __init__(self, parallel: int) -> None:
        self._slots = asyncio.Semaphore(parallel)

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` on a thread once a slot is free, and returns or raises its result."""
        async with self._slots:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[T] = loop.create_future()
            threading.Thread(target=_run, args=(call, loop, done), daemon=True).start()
            return await done


class DiskThread:
    """Runs the writes of one file in order on one thread. It does not keep the process alive, so they must be safe to cut off at any point.

    A write whose caller no longer waits still delays the next one, so that no two use the same temporary file.

    Args:
        name: Name of the thread.
    """

    def __init__(self, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()  # its users wait for each call before the next
        threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` on the thread after all earlier ones, and returns or raises its result."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        self._calls.put(lambda: _run(call, loop, done))
        return await done

    def close(self) -> None:
        """Ends the thread after the calls so far, without waiting for it. Idempotent."""
        self._calls.put(None)

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
    try:
        result = call()
    except BaseException as exc:  # noqa: BLE001 - it is raised again where it is awaited
        _set_outcome(loop, done, done.set_exception, exc)
    else:
        _set_outcome(loop, done, done.set_result, result)


def _set_outcome(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], setter: Callable[..., None], outcome: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
        loop.call_soon_threadsafe(lambda: None if done.done() else setter(outcome))
