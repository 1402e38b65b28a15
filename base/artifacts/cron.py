"""Cron: when a schedule is due next. Knows no clock: the time is given."""

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
    """A cron schedule: `Cron("0 0 * * *")` is every midnight, `Cron("30 6 * * mon", "Europe/Berlin")` Mondays at half past six there.

    When clocks are set forward, what falls into the missing hour is due once that hour is over. When they are set back, a schedule with
    fixed hours is due in the first of the two equal hours only, and one for every hour in both, as cron itself does.

    Attributes:
        schedule: minute, hour, day of month, month, day of week; or six fields, with seconds before them.
        timezone: the name of a time zone of the IANA database.

    Raises:
        Declaration: the schedule means nothing or is never due, or there is no such time zone.
    """

    schedule: str
    timezone: str = "UTC"

    def __post_init__(self) -> None:
        if len(self.schedule.split()) not in {5, 6}:
            raise Declaration(f"Cron({self.schedule!r}): write five fields (minute hour day month weekday), or six with seconds first")
        try:
            self._zone()
        except (OSError, ValueError, LookupError) as exc:  # a wrong name may also lead to a folder, or out of the database
            raise Declaration(f"Cron({self.schedule!r}, {self.timezone!r}): there is no such time zone") from exc
        try:
            self.after(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
        except ValueError as exc:  # all of croniter's errors are
            raise Declaration(f"Cron({self.schedule!r}): {exc}") from exc

    def as_str(self) -> str:
        """The schedule as it was written."""
        return self.schedule

    def after(self, timestamp_s: float) -> float:
        """When it is due next, strictly after this time; both in seconds since 1970."""
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
    """Whether the wall clock shows this time for the second time."""
    return local.utcoffset() != local.replace(fold=0).utcoffset()


@functools.cache
def _croniter() -> Any:
    from croniter import croniter  # noqa: PLC0415 - only where there is a schedule: it would slow the start of every worker

    return croniter
