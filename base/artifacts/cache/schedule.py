"""When entries are refreshed. Pure but for the clocks and the dice that it is given."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from base.artifacts.cache.failed_loads import RETRY
from base.artifacts.cron import Cron


SET_BACK_MAX_S = 3 * 3600.0
"""A clock that is set back by no more than this shows hours again, and what was due in them is not due again, as with cron itself. One that is
set back by more was wrong before, and counts as it is now."""


@dataclass(frozen=True)
class DueRefresh:
    """A time: seconds since 1970 if `by_wall`, else of a clock that only grows. A schedule means the former, an interval the latter."""

    at_s: float
    by_wall: bool


class RefreshSchedule:
    """Cron or interval, with jitter.

    Args:
        clock: seconds that only grow.
        wall: seconds since 1970; may jump.
        dice: a number from 0 to below 1.
    """

    def __init__(
        self,
        cron: Cron | None,
        interval: timedelta | None,
        jitter: timedelta,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        dice: Callable[[], float] = random.random,
    ) -> None:
        self._cron = cron
        self._interval_s = None if interval is None else interval.total_seconds()
        self._jitter_s = jitter.total_seconds()
        self._clock, self._wall, self._dice = clock, wall, dice
        self._latest_s = -math.inf  # the wall clock never showed a later time, but for errors
        self._gap = (0.0, 0.0)  # between two times of the cron schedule: there the next one need not be computed again

    def after_success(self) -> DueRefresh | None:
        """The next refresh of an entry that was loaded or checked just now; None where nothing is planned."""
        if self._cron is not None:
            return DueRefresh(self._next_s(self._cron) + self._late_s(), by_wall=True)
        if self._interval_s is not None:
            return DueRefresh(self._clock() + self._interval_s + self._late_s(), by_wall=False)
        return None

    def after_failure(self, in_a_row: int) -> DueRefresh | None:
        """When a refresh that failed is tried again: after a growing pause, and never later than the plan has it."""
        planned = self.after_success()
        if planned is None:
            return None
        return min(planned, DueRefresh(self._clock() + RETRY.delay_s(in_a_row), by_wall=False), key=self.remaining_s)

    def remaining_s(self, due: DueRefresh) -> float:
        """Until then; 0 or less when it is time."""
        return due.at_s - (self._wall() if due.by_wall else self._clock())

    def corrected(self, due: DueRefresh) -> DueRefresh:
        """The same, or earlier if the wall clock was set back since."""
        if not due.by_wall or self._cron is None:
            return due
        planned = self._next_s(self._cron) + self._jitter_s
        return due if due.at_s <= planned else DueRefresh(planned, by_wall=True)

    def _next_s(self, cron: Cron) -> float:
        now_s = self._now_s()
        if not self._gap[0] <= now_s < self._gap[1]:
            self._gap = (now_s, cron.after(now_s))
        return self._gap[1]

    def _now_s(self) -> float:
        """The wall clock, without the hours that it shows again."""
        now_s = self._wall()
        if not 0 <= self._latest_s - now_s <= SET_BACK_MAX_S:
            self._latest_s = now_s
        return self._latest_s

    def _late_s(self) -> float:
        return self._dice() * self._jitter_s
