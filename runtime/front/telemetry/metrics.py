"""The metrics of a front door's endpoints. All code here runs in the loop's thread.

The rest of the front door uses only the two methods of `RequestMetrics`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from base.ipc.metrics_report import MetricsConfig, MetricsReport
from base.telemetry.reports import EndpointMetrics
from runtime.front.telemetry.interval_reports import IntervalReports

CLIENT_CLOSED_REQUEST = 499
"""Status of a request whose client disconnected before its response, as nginx logs it. No client ever receives it."""

now_s = time.perf_counter
"""The clock of all times here. The loop's own clock does not advance within one iteration."""

_COUNTERS = ("Requests", "Errors", "ClientErrors", "Abandoned")


class RequestMetrics(EndpointMetrics):
    """Records the metrics of one endpoint."""

    def record_response(self, status: int, began_s: float = 0.0) -> None:
        """Records the end of a request.

        Args:
            status: Status of its response, or of the problem that ended a streamed response, or `CLIENT_CLOSED_REQUEST`.
            began_s: Time by `now_s` at which its body was complete; 0 for a request that was refused earlier, which has no latency.
        """
        if not self._is_pending:
            self._join()
        counts = self._counts
        counts["Requests"] += 1
        if began_s:
            self._values["Latency"].record((now_s() - began_s) * 1000)
        if status >= 500:
            counts["Errors"] += 1
        elif status == CLIENT_CLOSED_REQUEST:
            counts["Abandoned"] += 1
        elif status >= 400:
            counts["ClientErrors"] += 1

    def record_batch(self, queued_s: Iterable[float], rows: int) -> None:
        """Records a batch that was sent to a worker.

        Args:
            queued_s: Time by `now_s` at which each of its requests was queued; 0 for a request that is sent again.
            rows: Rows of the batch.
        """
        if not self._is_pending:
            self._join()
        now = now_s()
        self._values["BatchSize"].record(rows)
        for since_s in queued_s:
            if since_s:
                self._values["QueueTime"].record((now - since_s) * 1000)


class MirrorMetrics(EndpointMetrics):
    """Records the metrics of one release that gets mirrored requests."""

    def record_skipped(self) -> None:
        """Records a request whose copy was not sent or not computed."""
        if not self._is_pending:
            self._join()
        self._counts["MirrorSkipped"] += 1


class FrontMetrics(IntervalReports[MetricsReport]):
    """Holds the metrics of all endpoints of a front door.

    Args:
        config: Interval of the reports, and the size of samples.
        on_due: Called when reports are due. It should let the loop run between two reports, since there may be very many.
    """

    def __init__(self, config: MetricsConfig, on_due: Callable[[], None]) -> None:
        super().__init__(config.interval_s, on_due)
        self._values_max = config.values_max

    def endpoint_metrics(self, model: str, version: str, endpoint: str) -> RequestMetrics:
        """Returns the metrics of an endpoint."""
        return RequestMetrics(self, model, version, endpoint, self._values_max, _COUNTERS)

    def mirror_metrics(self, model: str, version: str) -> MirrorMetrics:
        """Returns the metrics of a release that gets mirrored requests."""
        return MirrorMetrics(self, model, version, "", self._values_max)
