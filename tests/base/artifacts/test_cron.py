from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.artifacts.cron import Cron
from base.errors import Declaration


def times(cron: Cron, start: str, count: int) -> list[str]:
    zone = ZoneInfo(cron.timezone)
    now, found = datetime.fromisoformat(start).replace(tzinfo=zone).timestamp(), []
    for _ in range(count):
        now = cron.after(now)
        found.append(datetime.fromtimestamp(now, zone).strftime("%m-%d %H:%M:%S%z"))
    return found


def test_five_fields_are_minutes_to_weekdays_and_six_have_seconds_first() -> None:
    """The time zone is the one given, by default UTC."""
    assert times(Cron("0 0 * * *"), "2026-01-01", 2) == ["01-02 00:00:00+0000", "01-03 00:00:00+0000"]
    assert times(Cron("30 0 0 * * *"), "2026-01-01", 1) == ["01-01 00:00:30+0000"]
    assert times(Cron("15 6 * * mon", "Asia/Tokyo"), "2026-01-01", 1) == ["01-05 06:15:00+0900"]
    assert Cron("0 0 * * *").as_str() == "0 0 * * *"


def test_a_time_in_a_missing_hour_is_due_after_it() -> None:
    """It is due once that day, and at its own time on the next."""
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-03-28T12:00", 2) == ["03-29 03:00:00+0200", "03-30 02:30:00+0200"]


def test_a_fixed_hour_that_comes_twice_is_due_once() -> None:
    """A nightly schedule is not due twice; an hourly one is due in every hour that passes."""
    assert times(Cron("30 2 * * *", "Europe/Berlin"), "2026-10-24T12:00", 2) == ["10-25 02:30:00+0200", "10-26 02:30:00+0100"]
    hourly = times(Cron("0 * * * *", "Europe/Berlin"), "2026-10-25T01:30", 3)
    assert hourly == ["10-25 02:00:00+0200", "10-25 02:00:00+0100", "10-25 03:00:00+0100"]


@given(st.integers(1_767_225_600, 1_830_297_600), st.integers(0, 59), st.integers(0, 23))
def test_a_daily_schedule_is_due_once_every_day(now: int, minute: int, hour: int) -> None:
    """For every hour and season the next time is strictly later and never on the same date."""
    cron, zone = Cron(f"{minute} {hour} * * *", "Europe/Berlin"), ZoneInfo("Europe/Berlin")
    first = cron.after(now)
    second = cron.after(first)
    assert now < first < second
    dates = [datetime.fromtimestamp(each, zone).date() for each in (first, second)]
    assert dates[1] - dates[0] == timedelta(days=1)


@pytest.mark.parametrize(
    "wrong",
    [("",), ("bad",), ("* * * *",), ("61 * * * *",), ("0 0 31 2 *",), ("@daily",), ("0 0 * * * 0 2020",), ("0 0 * * *", "Mars/Base")],
)
def test_an_invalid_schedule_is_refused_when_it_is_declared(wrong: tuple[str, ...]) -> None:
    """A schedule that is never due and an unknown time zone are refused too."""
    with pytest.raises(Declaration):
        Cron(*wrong)
