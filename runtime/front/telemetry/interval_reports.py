"""Reports of a front door that are due an interval after their first entry. All code here runs in the loop's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from base.telemetry.reports import PendingReports

R = TypeVar("R")


class IntervalReports(PendingReports[R]):
    """Holds pending reports, and arms a timer with the first; no timer runs while there are none.

    Args:
        interval_s: Time from the first entry until the reports are due.
        on_due: Called when the reports are due; the caller should take them soon.
    """

    def __init__(self, interval_s: float, on_due: Callable[[], None]) -> None:
        super().__init__(self._arm)
        self._interval_s = interval_s
        self._on_due = on_due

    def _arm(self) -> None:
        asyncio.get_running_loop().call_later(self._interval_s, self._on_due)
