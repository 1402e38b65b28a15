"""Blocking work of the supervisor, a bounded number of calls at a time."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class BlockingThreads:
    """Runs blocking calls on threads that do not keep the process alive: what they do must bear being cut off anywhere.

    `concurrent.futures` would wait at exit for an unpacking that takes half a minute.
    """

    def __init__(self, parallel: int) -> None:
        self._room = asyncio.Semaphore(parallel)

    async def run(self, call: Callable[[], T]) -> T:
        """What `call` returns or raises, once there is room for it and it is done."""
        async with self._room:
            loop = asyncio.get_running_loop()
            done: asyncio.Future[T] = loop.create_future()
            threading.Thread(target=_run, args=(call, loop, done), daemon=True).start()
            return await done


def _run(call: Callable[[], T], loop: asyncio.AbstractEventLoop, done: asyncio.Future[T]) -> None:
    try:
        result = call()
    except BaseException as exc:  # noqa: BLE001 - it is raised again, where it is awaited
        _tell(loop, done, done.set_exception, exc)
    else:
        _tell(loop, done, done.set_result, result)


def _tell(loop: asyncio.AbstractEventLoop, done: asyncio.Future[T], settle: Callable[..., None], outcome: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if done.done() else settle(outcome))
