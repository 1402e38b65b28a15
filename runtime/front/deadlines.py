"""The deadlines of all requests of a front door, on one timer."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.front.request import Request


class Deadlines:
    """Requests in the order in which they expire. All have the same time, so that is the order of their coming.

    One timer for the first of them, armed only while there is one: a timer a request would cost more than the rest of its bookkeeping.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._ends: dict[Request, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def watch(self, request: Request) -> None:
        """From now on the request has `timeout_s`."""
        self._ends[request] = time.monotonic() + self.timeout_s
        if self._timer is None:
            self._arm(self.timeout_s)

    def forget(self, request: Request) -> None:
        """The request is answered; safe when it is unknown."""
        self._ends.pop(request, None)

    def left_s(self, request: Request) -> float:
        """What is left to it; never negative."""
        end = self._ends.get(request)
        return 0.0 if end is None else max(0.0, end - time.monotonic())

    def _arm(self, left_s: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(left_s, self._fire)

    def _fire(self) -> None:
        now = time.monotonic()
        self._timer = None
        for request in [request for request, end in self._ends.items() if end <= now]:
            request.endpoint.expire(request)
        if self._ends:
            self._arm(max(0.0, next(iter(self._ends.values())) - now))
