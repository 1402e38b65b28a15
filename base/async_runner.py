"""The asyncio loop of a worker. There is one, on the thread that computes; it is created when the first handler needs it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from base.log import get_logger

T = TypeVar("T")

log = get_logger(__name__)

_CLOSE_S = 5.0
"""Time limit for the remaining tasks to end after they were cancelled, in seconds. A task can ignore its cancellation."""


class AsyncRunner:
    """Owns the loop. While a worker with async handlers serves, the loop runs, and with it the tasks that handlers leave behind."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_used(self) -> bool:
        """True if the loop exists."""
        return self._loop is not None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Returns the loop, which is created first if there is none."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_log_failed_task)
        return self._loop

    def run_coroutine(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Returns what the coroutine returns, and raises what it raises.

        While the loop runs, it is run on a thread with a loop of its own. This is needed only for the coroutine of a handler that is not
        declared as a coroutine function, such as a lambda.
        """
        if not self.loop.is_running():
            return self.loop.run_until_complete(coroutine)
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(asyncio.run, coroutine).result()

    def close(self) -> None:
        """Cancels the remaining tasks and closes the loop. Idempotent."""
        loop, self._loop = self._loop, None
        if loop is None:
            return
        remaining = asyncio.all_tasks(loop)
        for task in remaining:
            task.cancel()
        if remaining:
            loop.run_until_complete(asyncio.wait(remaining, timeout=_CLOSE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


def _log_failed_task(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs the error of a task that nobody awaits, whatever a model does to `logging`."""
    log.error("asyncio: %s", context["message"], exc_info=context.get("exception"))
