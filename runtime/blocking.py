"""Runs blocking work of the supervisor on threads, a limited number of calls at a time."""

from __future__ import annotations

import asyncio
import contextlib
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
