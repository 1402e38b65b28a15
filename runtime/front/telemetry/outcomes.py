"""The outcomes of requests to watched releases. Everything here runs in the loop's thread."""

from __future__ import annotations

from collections.abc import Callable

from base.ipc.front_door_control import OutcomeReport
from base.telemetry.reports import PendingReports, ReportSource
from runtime.front.telemetry.interval_reports import IntervalReports

INTERVAL_S = 0.2
"""Interval of the reports in seconds. A message costs the supervisor about 50 µs."""

URGENT_FAILURES = 1000
"""Number of failures of a release that are reported at once, since each may be the one that rolls it back. Later, the interval is short
enough: it adds little to what has failed already."""


class OutcomeCounter(ReportSource[OutcomeReport]):
    """Counts the outcomes of requests to one watched release.

    Args:
        pending: Reports that it joins.
        release_id: The release.
        on_urgent: Called when the report should be taken at once.
    """

    def __init__(self, pending: PendingReports[OutcomeReport], release_id: str, on_urgent: Callable[[], None]) -> None:
        super().__init__(pending)
        self._release_id = release_id
        self._on_urgent = on_urgent
        self._answered = self._failed = self._urgent = 0

    def record_outcome(self, *, failed: bool) -> None:
        """Counts an answered request. `failed` is true if it failed because of the release."""
        if not self._is_pending:
            self._join()
        self._answered += 1
        self._failed += failed
        if failed and self._urgent < URGENT_FAILURES:
            self._urgent += 1
            self._on_urgent()

    def _build_report(self) -> OutcomeReport:
        report = OutcomeReport(self._release_id, self._answered, self._failed)
        self._answered = self._failed = 0
        return report


class OutcomeCounters(IntervalReports[OutcomeReport]):
    """Holds the outcomes of all watched releases of a front door.

    Args:
        on_due: Called when reports are due.
        on_urgent: Called when only these reports should be taken at once.
    """

    def __init__(self, on_due: Callable[[], None], on_urgent: Callable[[], None]) -> None:
        super().__init__(INTERVAL_S, on_due)
        self._on_urgent = on_urgent

    def release_counter(self, release_id: str) -> OutcomeCounter:
        """Returns the counter of a release."""
        return OutcomeCounter(self, release_id, self._on_urgent)
