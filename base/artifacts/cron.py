"""Cron schedules: the time at which one is due next. Has no clock; callers pass the time."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from base.errors import Declaration

_EVERY_HOUR = re.compile(r"\*(/\d+)?")


@dataclass(frozen=True)
class Cron:
    """A cron schedule: `Cron("0 0 * * *")` is due every midnight, `Cron("30 6 * * mon", "Europe/Berlin")` on Mondays at 6:30 in Berlin.

    When clocks are set forward, times within the missing hour are due right after it. When clocks are set back, a schedule with fixed hours
    is due only in the first of the two equal hours, and a schedule for every hour in both, as with cron itself.

    Attributes:
        schedule: Minute, hour, day of month, month and day of week; or six fields, with seconds first.
        timezone: Name of a time zone of the IANA database.

    Raises:
        Declaration: The schedule is invalid or never due, or there is no such time zone.
    """

    schedule: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.schedule.split()) not in {5, 6}:
            raise Declaration(f"Cron({self.schedule!r}): expected five fields (minute hour day month weekday), or six with seconds first")
        try:
            self._zone()
        except (OSError, ValueError, LookupError) as exc:  # a wrong name may also be a folder of the database, or outside of it
            raise Declaration(f"Cron({self.schedule!r}, {self.timezone!r}): unknown time zone; use a name such as Europe/Berlin") from exc
        try:
            self.after(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
        except ValueError as exc:  # the base class of croniter's errors
            raise Declaration(f"Cron({self.schedule!r}): {exc}") from exc

    def as_str(self) -> str:
        """Returns the schedule as its author wrote it."""
        return self.schedule

    def after(self, timestamp_s: float) -> float:
        """Returns the next time, strictly after this one, at which the schedule is due; both in seconds since 1970."""
        times = _croniter()(self.schedule, datetime.fromtimestamp(timestamp_s, self._zone()), second_at_beginning=True)
        found: datetime = times.get_next(datetime)
        while self._fixed_hours() and _is_repeated(found):
            found = times.get_next(datetime)
        return found.timestamp()

    def _zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def _fixed_hours(self) -> bool:
        return _EVERY_HOUR.fullmatch(self.schedule.split()[-4]) is None


def _is_repeated(local: datetime) -> bool:
    """Returns True for a local time that occurs for the second time, after clocks were set back."""
    return local.utcoffset() != local.replace(fold=0).utcoffset()


@functools.cache
def _croniter() -> Any:
    from croniter import croniter  # noqa: PLC0415 - only workers with a schedule pay for the import

    return croniter
