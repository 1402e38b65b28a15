"""The deadlines of all requests of a front door, on one timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.front.requests.request import InferenceRequest

_NEVER = float("inf")

_MOMENT_S = 0.001
"""What is lost of a time on its way to a worker: it is told in whole milliseconds."""


class Deadlines:
    """Requests by the time that they have: of those that have the same, the first to come is the first to expire.

    One timer for the first of all, armed only while there is one: a timer a request would cost more than the rest of its bookkeeping.

    Args:
        timeout_s: what a request may have at most, and has where neither its client nor its endpoint says less.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._lanes: dict[float, dict[InferenceRequest, None]] = {}  # no more than there are requests
        self._timer: asyncio.TimerHandle | None = None
        self._fires_s = _NEVER

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def watch(self, request: InferenceRequest) -> None:
        """From now on the request has its `timeout_s`."""
        timeout_s = request.timeout_s
        ends_s = request.ends_s = time.monotonic() + timeout_s
        lane = self._lanes.get(timeout_s)
        if lane is None:
            lane = self._lanes[timeout_s] = {}
        lane[request] = None
        if ends_s < self._fires_s:
            self._arm(ends_s)

    def forget(self, request: InferenceRequest) -> None:
        """The request is answered; safe when it is unknown."""
        timeout_s = request.timeout_s
        lane = self._lanes.get(timeout_s)
        if lane is not None:
            lane.pop(request, None)
            if not lane and timeout_s != self.timeout_s:
                del self._lanes[timeout_s]

    def _arm(self, ends_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_s = ends_s
        self._timer = asyncio.get_running_loop().call_later(max(0.0, ends_s - time.monotonic()), self._fire)

    def _fire(self) -> None:
        now_s = time.monotonic()
        self._timer, self._fires_s = None, _NEVER
        for request in [each for lane in self._lanes.values() for each in lane if each.ends_s <= now_s]:
            request.endpoint.expire(request)
        first_s = min((next(iter(lane)).ends_s for lane in self._lanes.values() if lane), default=_NEVER)
        if first_s < self._fires_s:
            self._arm(first_s)


def in_time(requests: Sequence[InferenceRequest]) -> list[InferenceRequest]:
    """Those that still have time and are not answered. The others are, also where the timer is late."""
    soon_s = time.monotonic() + _MOMENT_S
    for request in requests:
        if not request.answered and request.ends_s <= soon_s:
            request.endpoint.expire(request)
    return [request for request in requests if not request.answered]
