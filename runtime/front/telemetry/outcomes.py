"""The outcomes of requests to releases on probation, and their limit of failures. Everything here runs in the loop's thread."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from base.ipc.front_door_control import FailureLimit, OutcomeReport
from base.telemetry.reports import PendingReports, ReportSource
from runtime.front.telemetry.interval_reports import IntervalReports

INTERVAL_S = 0.2
"""Interval of the reports in seconds. A message costs the supervisor about 50 µs."""


class OutcomeCounter(ReportSource[OutcomeReport]):
    """Counts the outcomes of requests to one release, and keeps to its limit of failures.

    A request may only be sent if the limit would not be reached before it, even if all that were sent and are not answered yet failed. So
    no more requests fail than if each was sent after the answer to the one before, and none is at a worker when the limit is reached.

    Args:
        pending: Reports that it joins.
        release_id: The release.
        limit: The limit of failures.
        on_urgent: Called when the limit is reached, so that the report should be taken at once.
    """

    def __init__(self, pending: PendingReports[OutcomeReport], release_id: str, limit: FailureLimit, on_urgent: Callable[[], None]) -> None:
        super().__init__(pending)
        self._release_id = release_id
        self._limit = limit
        self._on_urgent = on_urgent
        self._sent: set[Hashable] = set()
        self._answered = self._failed = 0
        self._reported = 0, 0

    @property
    def has_room(self) -> bool:
        """True if a request may be sent."""
        sent = len(self._sent)
        return not self._limit.is_reached(self._answered + sent, self._failed + sent)

    def begin_request(self, request: Hashable) -> bool:
        """Counts a request that is to be sent, once if it is sent in parts. Returns False if it may not be sent."""
        if request in self._sent or self.has_room:
            self._sent.add(request)
            return True
        return False

    def end_request(self, request: Hashable, *, answered: bool, failed: bool = False) -> None:
        """Counts the outcome of a request that was sent.

        Args:
            request: The request. One that was not sent says nothing about the release.
            answered: Whether its client got an answer from this release.
            failed: Whether it failed because of the release.
        """
        if request not in self._sent:
            return
        self._sent.remove(request)
        if not answered:
            return
        if not self._is_pending:
            self._join()
        self._answered += 1
        self._failed += failed
        if failed and self._limit.is_reached(self._answered, self._failed):
            self._on_urgent()

    def _build_report(self) -> OutcomeReport:
        answered, failed = self._reported
        self._reported = self._answered, self._failed
        reached = self._limit.is_reached(self._answered, self._failed)
        return OutcomeReport(self._release_id, self._answered - answered, self._failed - failed, reached)


class OutcomeCounters(IntervalReports[OutcomeReport]):
    """Holds the outcomes of all releases on probation of a front door.

    Args:
        on_due: Called when reports are due.
        on_urgent: Called when only these reports should be taken at once.
    """

    def __init__(self, on_due: Callable[[], None], on_urgent: Callable[[], None]) -> None:
        super().__init__(INTERVAL_S, on_due)
        self._on_urgent = on_urgent

    def release_counter(self, release_id: str, limit: FailureLimit) -> OutcomeCounter:
        """Returns the counter of a release."""
        return OutcomeCounter(self, release_id, limit, self._on_urgent)
