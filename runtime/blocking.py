"""Runs blocking work of the supervisor on threads, so that its event loop waits for none of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from _thread import start_new_thread
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")

HANGS_AFTER_S = 5.0
"""Time in seconds after which a call is reported. Disks that are merely busy, and file servers that fail over, are sooner."""


class BlockingThreads:
    """Runs blocking calls on threads that do not keep the process alive, so the calls must be safe to cut off at any point.

    Calls begin in order. A call whose caller no longer waits still takes its place until it ends. So with one place no two calls use the
    same file, and a disk that hangs holds no more threads than there are places. `concurrent.futures` would wait for all of them at exit.

    Args:
        parallel: Number of calls at a time.
        files: Name of the files that the calls use, for the log: it reports a call that hangs. Empty for calls that may take long.
    """

    def __init__(self, parallel: int, files: str = "") -> None:
        self._places = asyncio.Semaphore(parallel)
        self._files = files

    async def run(self, call: Callable[[], T]) -> T:
        """Runs `call` on a thread once there is a place, and returns or raises its result."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        hang = loop.call_later(HANGS_AFTER_S, self._report_hang) if self._files else None
        begun_s = loop.time()

        def end(set_outcome: Callable[..., None], outcome: object) -> None:
            self._places.release()
            if hang is not None:
                hang.cancel()
                if loop.time() >= hang.when():
                    log.warning("%s: the operation has ended after %.0f s", self._files, loop.time() - begun_s)
            if not done.done():
                set_outcome(outcome)

        def work() -> None:
            ending: tuple[Callable[..., None], object]
            try:
                ending = done.set_result, call()
            except BaseException as exc:  # noqa: BLE001 - it is raised again where it is awaited
                ending = done.set_exception, exc
            with contextlib.suppress(RuntimeError):  # the loop is closed, so nobody waits any more
                loop.call_soon_threadsafe(end, *ending)

        try:
            start_new_thread(work, ())  # unlike `Thread.start`, it does not wait until the thread has a processor
        except RuntimeError as exc:
            end(done.set_exception, exc)
        return await done

    def _report_hang(self) -> None:
        log.error("%s: an operation has lasted %g s, and what needs it waits: the disk or file server hangs", self._files, HANGS_AFTER_S)


def run_within(limit_s: float, files: str, call: Callable[[], object]) -> None:
    """Removes files at the end, on a thread, and does not wait long for a disk that hangs. Logs why some may be left.

    Args:
        limit_s: Time limit in seconds.
        files: Name of the files, for the log.
        call: Removes them.
    """

    def work() -> None:
        try:
            call()
        except OSError as exc:
            log.warning("%s: %s", files, exc)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(limit_s)
    if thread.is_alive():
        log.error("%s: removing files lasts longer than %g s, so some may be left", files, limit_s)
