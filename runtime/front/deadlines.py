"""The deadlines of all requests of a front door, on one timer."""

from __future__ import annotations

import asyncio
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

    def watch(self, request: Request, now: float) -> None:
        """From now on the request has `timeout_s`."""
        self._ends[request] = now + self.timeout_s
        if self._timer is None:
            self._arm(now + self.timeout_s)

    def forget(self, request: Request) -> None:
        """The request is answered; safe when it is unknown."""
        self._ends.pop(request, None)

    def left_s(self, request: Request, now: float) -> float:
        """What is left to it; never negative."""
        return max(0.0, self._ends.get(request, now) - now)

    def _arm(self, end: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(end, self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        for request in [request for request, end in self._ends.items() if end <= now]:
            request.endpoint.expire(request)
        if self._ends:
            self._arm(next(iter(self._ends.values())))
