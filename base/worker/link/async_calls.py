"""The calls of async handlers: run concurrently on the loop of the worker, up to a limit for each endpoint."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from base.artifacts.cache.cache import Lease
from base.async_runner import AsyncRunner
from base.endpoint.endpoint import CONCURRENCY_MAX
from base.worker.link.reply_sender import never_retained


class AsyncCall:
    """One call of an async handler, from its arrival until its task has ended.

    Args:
        endpoint: Number of the endpoint.
        limit: Limit of calls of this endpoint at the same time.
        run: Makes the coroutine of the call.
        on_suspended: Called once if the handler awaits something while the worker can take more calls.
        is_exclusive: No other call may run at the same time, so that it is known which call ended a worker that crashes.
    """

    def __init__(
        self,
        endpoint: int,
        limit: int,
        run: Callable[[], Coroutine[Any, Any, None]],
        on_suspended: Callable[[], None],
        *,
        is_exclusive: bool,
    ) -> None:
        self.endpoint = endpoint
        self.limit = limit
        self.run = run
        self.on_suspended = on_suspended
        self.is_exclusive = is_exclusive
        self.is_parked = False
        self.task: asyncio.Task[None] | None = None


class AsyncCalls:
    """Starts the calls of all front doors of a worker in their order.

    A front door has at most two batches at a worker that computes. A batch whose handler awaits something is reported as parked, as a batch
    that waits for its model is, so that the front door sends others. Once as many calls run as may, the next ones wait here, unparked.

    Attributes:
        runner: The loop on which they run.
    """

    def __init__(self, runner: AsyncRunner) -> None:
        self.runner = runner
        self._running: dict[AsyncCall, None] = {}
        self._waiting: deque[AsyncCall] = deque()  # bounded, since front doors send nothing while batches wait here

    def submit(self, call: AsyncCall) -> None:
        """Starts a call, or lets it wait."""
        self._waiting.append(call)
        self._start_waiting()

    def cancel(self, call: AsyncCall) -> bool:
        """Cancels a call. Returns False if it had not begun; its coroutine is never made then. Otherwise it ends when its handler does."""
        if call.task is None:
            self._waiting.remove(call)
            return False
        call.task.cancel()
        return True

    def _start_waiting(self) -> None:
        for call in list(self._waiting):
            if not self._may_start(call):
                if call.is_exclusive:
                    break  # others would keep it from ever starting
                continue
            self._waiting.remove(call)
            self._running[call] = None
            call.task = self.runner.loop.create_task(call.run())
            call.task.add_done_callback(lambda _, call=call: self._on_done(call))  # type: ignore[misc]
            self.runner.loop.call_soon(self._park_suspended)  # after the first step of the task, which may be its last

    def _may_start(self, call: AsyncCall) -> bool:
        if call.is_exclusive or any(each.is_exclusive for each in self._running):
            return not self._running
        return len(self._running) < CONCURRENCY_MAX and self._count(call.endpoint) < call.limit

    def _count(self, endpoint: int) -> int:
        return sum(each.endpoint == endpoint for each in self._running)

    def _on_done(self, call: AsyncCall) -> None:
        del self._running[call]
        self._start_waiting()
        self._park_suspended()

    def _park_suspended(self) -> None:
        if self._waiting or len(self._running) >= CONCURRENCY_MAX:
            return
        for call in self._running:
            is_suspended = call.task is not None and not call.task.done()
            if is_suspended and not call.is_parked and not call.is_exclusive and self._count(call.endpoint) < call.limit:
                call.is_parked = True
                call.on_suspended()


class OpenCall:
    """A call of an async handler that is not answered yet, its model, and the timer of its deadline."""

    def __init__(self, call: AsyncCall, lease: Lease | None) -> None:
        self.call = call
        self.lease = lease
        self.timer: asyncio.TimerHandle | None = None
        self.is_abandoned = False
        self.is_retained = never_retained

    def close(self) -> None:
        """Gives the model back, and cancels the timer. Idempotent."""
        lease, self.lease = self.lease, None
        if lease is not None:
            lease.release()
        if self.timer is not None:
            self.timer.cancel()
