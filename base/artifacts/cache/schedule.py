"""The times at which entries are refreshed. Pure except for the clocks and the random numbers that it is given."""

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
"""If the wall clock is set back by at most this much, hours repeat, and the refreshes of the repeated hours are not due again, as with cron
itself. If it is set back by more, it was wrong before, and the new time counts."""


@dataclass(frozen=True)
class DueRefresh:
    """The time of a refresh: seconds since 1970 if `by_wall` (cron schedules), else monotonic seconds (intervals)."""

    at_s: float
    by_wall: bool


class RefreshSchedule:
    """A cron schedule or an interval, with jitter.

    Args:
        cron: The cron schedule, if there is one.
        interval: The interval, if there is one.
        jitter: Maximum random delay of a refresh.
        clock: Returns monotonic seconds.
        wall: Returns seconds since 1970; may jump.
        uniform: Returns a random number from 0 to less than 1.
    """

    def __init__(
        self,
        cron: Cron | None,
        interval: timedelta | None,
        jitter: timedelta,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        uniform: Callable[[], float] = random.random,
    ) -> None:
        self._cron = cron
        self._interval_s = None if interval is None else interval.total_seconds()
        self._jitter_s = jitter.total_seconds()
        self._clock, self._wall, self._uniform = clock, wall, uniform
        self._latest_s = -math.inf  # the latest time of the wall clock so far, unless it was wrong
        self._gap = (0.0, 0.0)  # an interval in which the cron schedule is never due: within it, the next time is not computed again

    def after_success(self) -> DueRefresh | None:
        """Returns the next refresh of an entry that was just loaded or found unchanged; None if none is planned."""
        if self._cron is not None:
            return DueRefresh(self._next_s(self._cron) + self._jitter(), by_wall=True)
        if self._interval_s is not None:
            return DueRefresh(self._clock() + self._interval_s + self._jitter(), by_wall=False)
        return None

    def after_failure(self, in_a_row: int) -> DueRefresh | None:
        """Returns the next attempt of a failed refresh: after a growing delay, but never later than the schedule's next refresh."""
        planned = self.after_success()
        if planned is None:
            return None
        return min(planned, DueRefresh(self._clock() + RETRY.delay_s(in_a_row), by_wall=False), key=self.remaining_s)

    def remaining_s(self, due: DueRefresh) -> float:
        """Returns the seconds until the refresh; 0 or less once it is due."""
        return due.at_s - (self._wall() if due.by_wall else self._clock())

    def corrected(self, due: DueRefresh) -> DueRefresh:
        """Returns the refresh, moved to an earlier time if the wall clock was set back since."""
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
        """Returns the time of the wall clock or, while it repeats hours, the latest time that it had before."""
        now_s = self._wall()
        if not 0 <= self._latest_s - now_s <= SET_BACK_MAX_S:
            self._latest_s = now_s
        return self._latest_s

    def _jitter(self) -> float:
        return self._uniform() * self._jitter_s
