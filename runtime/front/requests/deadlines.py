"""The deadlines of all requests of a front door, on one timer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TypeVar

_NEVER_S = float("inf")

_ROUNDING_S = 0.001
"""Rounding of deadlines in seconds: they are sent to workers in whole milliseconds."""


class Timed:
    """An item with a deadline. This is a base class of requests.

    Attributes:
        timeout_s: Time limit in seconds, which starts when `Deadlines` begins to watch the item.
        ends_s: Deadline on the monotonic clock; set by `Deadlines`.
        answered: Whether the item has ended, so that no client waits for it any more.
    """

    __slots__ = ("answered", "ends_s", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.ends_s = 0.0
        self.answered = False

    def expire(self) -> None:
        """Ends the item because its deadline has passed."""
        raise NotImplementedError


T = TypeVar("T", bound=Timed)


class Deadlines:
    """Watches the deadlines of items, grouped by time limit. Within a group, the first item to arrive is the first to expire.

    One timer, armed for the earliest deadline, serves all items. A timer for each request would cost more than the rest of its bookkeeping.

    Args:
        timeout_s: Upper limit of a request's time in seconds, and its default if neither client nor endpoint sets a limit.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._lanes: dict[float, dict[Timed, None]] = {}  # no more than there are requests
        self._timer: asyncio.TimerHandle | None = None
        self._fires_s = _NEVER_S

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def watch(self, timed: Timed) -> None:
        """Starts the time of a request."""
        timeout_s = timed.timeout_s
        ends_s = timed.ends_s = time.monotonic() + timeout_s
        lane = self._lanes.get(timeout_s)
        if lane is None:
            lane = self._lanes[timeout_s] = {}
        lane[timed] = None
        if ends_s < self._fires_s:
            self._arm(ends_s)

    def forget(self, timed: Timed) -> None:
        """Stops watching a request. Does nothing if it is not watched."""
        timeout_s = timed.timeout_s
        lane = self._lanes.get(timeout_s)
        if lane is not None:
            lane.pop(timed, None)
            if not lane and timeout_s != self.timeout_s:
                del self._lanes[timeout_s]

    def _arm(self, ends_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._fires_s = ends_s
        self._timer = asyncio.get_running_loop().call_later(max(0.0, ends_s - time.monotonic()), self._expire_due)

    def _expire_due(self) -> None:
        now_s = time.monotonic()
        self._timer, self._fires_s = None, _NEVER_S
        for timed in [each for lane in self._lanes.values() for each in lane if each.ends_s <= now_s]:
            timed.expire()
        first_s = min((next(iter(lane)).ends_s for lane in self._lanes.values() if lane), default=_NEVER_S)
        if first_s < self._fires_s:
            self._arm(first_s)


def expire_late(requests: Sequence[T]) -> list[T]:
    """Expires the requests whose deadline has passed, even if the timer is late, and returns the requests that still wait."""
    soon_s = time.monotonic() + _ROUNDING_S
    for request in requests:
        if not request.answered and request.ends_s <= soon_s:
            request.expire()
    return [request for request in requests if not request.answered]
