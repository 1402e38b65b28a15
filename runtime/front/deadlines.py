"""What expires after a fixed time, on one timer for all: requests, and connections that do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from runtime.front.request import Request  # noqa: F401 - ruff does not see it in the string
T = TypeVar("T")


class Expiring(Generic[T]):
    """Things in the order in which they expire. All have the same time, so that is the order of their coming.

    One timer for the first of them, armed only while there is one: a timer a request would cost more than the rest of its bookkeeping.

    Args:
        expire: called with what has expired, once, and then forgets it no more than it says so itself.
    """

    def __init__(self, timeout_s: float, expire: Callable[[T], None]) -> None:
        self.timeout_s = timeout_s
        self._expire = expire
        self._ends: dict[T, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._ends)

    def watch(self, one: T, now: float) -> None:
        """From now on it has `timeout_s`."""
        self._ends[one] = now + self.timeout_s
        if self._timer is None:
            self._arm(now + self.timeout_s)

    def forget(self, one: T) -> None:
        """It is over in good time; safe when it is unknown."""
        self._ends.pop(one, None)

    def left_s(self, one: T, now: float) -> float:
        """What is left to it; never negative."""
        return max(0.0, self._ends.get(one, now) - now)

    def _arm(self, end: float) -> None:
        self._timer = asyncio.get_running_loop().call_at(end, self._fire)

    def _fire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._timer = None
        for one in [one for one, end in self._ends.items() if end <= now]:
            self._ends.pop(one, None)
            self._expire(one)
        if self._ends:
            self._arm(next(iter(self._ends.values())))


class Deadlines(Expiring["Request"]):
    """Of all requests of a front door."""

    def __init__(self, timeout_s: float) -> None:
        super().__init__(timeout_s, lambda request: request.endpoint.expire(request))
