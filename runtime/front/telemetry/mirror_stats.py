"""The comparisons of mirrored requests with their originals. All code here runs in the loop's thread."""

from __future__ import annotations

from collections.abc import Callable

from base.ipc.front_door_control import MirrorReport
from base.telemetry.reports import PendingReports, ReportSource
from runtime.front.telemetry.interval_reports import IntervalReports
from runtime.front.telemetry.metrics import FrontMetrics, MirrorMetrics

INTERVAL_S = 1.0
"""Interval of the reports in seconds. People read them, so they need not be more frequent."""


class MirrorStats(ReportSource[MirrorReport]):
    """Accumulates how the responses of one mirror release compare with those of the release that served the client.

    Args:
        pending: Reports that it joins.
        model, release_id: Names that the reports carry.
        metrics: Counts skipped copies; None without a metrics configuration.
    """

    def __init__(self, pending: PendingReports[MirrorReport], model: str, release_id: str, metrics: MirrorMetrics | None = None) -> None:
        super().__init__(pending)
        self._names = model, release_id
        self._metrics = metrics
        self._reset()

    def _reset(self) -> None:
        self._requests = self._equal = self._failed = self._skipped = 0
        self._deviation_max = self._primary_ms = self._mirror_ms = 0.0

    def record_skipped(self) -> None:
        """Counts a request whose copy was not sent or not computed."""
        if not self._is_pending:
            self._join()
        self._skipped += 1
        if self._metrics is not None:
            self._metrics.record_skipped()

    def record_failed(self) -> None:
        """Counts a request that failed in the mirror release while the client got its response."""
        if not self._is_pending:
            self._join()
        self._failed += 1

    def record_comparison(self, *, equal: bool, deviation: float, primary_ms: float, mirror_ms: float) -> None:
        """Counts a request that both releases answered.

        Args:
            equal: Whether the responses have the same status and values.
            deviation: The largest difference between two numbers at the same place.
            primary_ms: Time that the client's response took.
            mirror_ms: Time that the response of the mirror release took.
        """
        if not self._is_pending:
            self._join()
        self._requests += 1
        self._equal += equal
        self._deviation_max = max(self._deviation_max, deviation)
        self._primary_ms += primary_ms
        self._mirror_ms += mirror_ms

    def _build_report(self) -> MirrorReport:
        counts = self._requests, self._equal, self._failed, self._skipped
        report = MirrorReport(*self._names, *counts, self._deviation_max, self._primary_ms, self._mirror_ms)
        self._reset()
        return report


class MirrorStatsByRelease(IntervalReports[MirrorReport]):
    """Holds the comparisons of all mirror releases of a front door.

    Args:
        on_due: Called when reports are due.
        metrics: Counts skipped copies; None without a metrics configuration.
    """

    def __init__(self, on_due: Callable[[], None], metrics: FrontMetrics | None = None) -> None:
        super().__init__(INTERVAL_S, on_due)
        self._metrics = metrics

    def release_stats(self, model: str, version: str, release_id: str) -> MirrorStats:
        """Returns the comparisons of a mirror release."""
        metrics = None if self._metrics is None else self._metrics.mirror_metrics(model, version)
        return MirrorStats(self, model, release_id, metrics)
