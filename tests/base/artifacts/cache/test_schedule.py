from __future__ import annotations

from datetime import datetime, timedelta

import base.artifacts as afs
from base.artifacts.cache.schedule import DueRefresh, RefreshSchedule


def test_a_schedule_keeps_to_its_zone_through_the_seasons() -> None:
    """Nights of 25 and of 23 hours refresh once each; a time within the missing hour is due after it."""
    for noon, hours in (("2026-10-24T12:00:00+02:00", [14.5, 25.0, 24.0]), ("2026-03-28T12:00:00+01:00", [14.0, 23.5, 24.0])):
        now_s = datetime.fromisoformat(noon).timestamp()
        schedule = RefreshSchedule(afs.Cron("30 2 * * *", "Europe/Berlin"), None, timedelta(), lambda: 0.0, lambda: now_s)  # noqa: B023 - moved below
        for each in hours:
            due = schedule.after_success()
            assert due is not None
            assert schedule.remaining_s(due) == each * 3_600
            now_s = due.at_s


def test_jitter_spreads_refreshes_and_never_hastens_them() -> None:
    """It delays a refresh by a random part of the jitter, for intervals and for schedules."""
    for dice, late_s in ((0.0, 0.0), (0.5, 15.0)):
        interval = RefreshSchedule(None, timedelta(seconds=60), timedelta(seconds=30), lambda: 100.0, lambda: 0.0, lambda dice=dice: dice)
        assert interval.after_success() == DueRefresh(160.0 + late_s, by_wall=False)
        cron = RefreshSchedule(afs.Cron("* * * * *"), None, timedelta(seconds=30), lambda: 100.0, lambda: 30.0, lambda dice=dice: dice)
        assert cron.after_success() == DueRefresh(60.0 + late_s, by_wall=True)
