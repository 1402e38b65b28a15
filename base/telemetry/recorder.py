"""The metrics of a worker, and the thread that reports them. Runs in the process that calls handlers.

Entries come from the serving thread and from the threads of caches. The reporting thread sleeps while there are none, and is the only one
that may wait for the parent, so a parent that does not read delays no prediction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Self

from base.ipc.metrics_report import MetricsConfig, MetricsReport
from base.telemetry.reports import EndpointMetrics, PendingReports

INTERVAL_VARIABLE = "PEXDOCK_EMF_INTERVAL_S"
VALUES_MAX_VARIABLE = "PEXDOCK_EMF_VALUES_MAX"

_CLOSE_S = 2.0
"""Time limit for sending the last report. A parent that reads receives it at once."""


def metrics_config_from(environment: Mapping[str, str]) -> MetricsConfig | None:
    """Returns the configuration that the supervisor put into a worker's environment; None if metrics are disabled."""
    if INTERVAL_VARIABLE not in environment:
        return None
    return MetricsConfig(float(environment[INTERVAL_VARIABLE]), int(environment[VALUES_MAX_VARIABLE]))


def metrics_environment(config: MetricsConfig | None) -> dict[str, str]:
    """Returns the environment variables that configure a worker's metrics. A control message would break workers of an older base."""
    if config is None:
        return {}
    return {INTERVAL_VARIABLE: str(config.interval_s), VALUES_MAX_VARIABLE: str(config.values_max)}


class HandlerMetrics(EndpointMetrics):
    """Records the metrics of one endpoint. Its methods may be called from any thread.

    Args:
        lock: Guards these metrics and the pending reports.
    """

    def __init__(
        self, pending: PendingReports[MetricsReport], lock: threading.Lock, model: str, version: str, endpoint: str, values_max: int
    ) -> None:
        super().__init__(pending, model, version, endpoint, values_max)
        self._lock = lock

    def increment(self, name: str) -> None:
        """Adds 1 to a count."""
        with self._lock:
            if not self._is_pending:
                self._join()
            self._counts[name] += 1

    def record_duration(self, name: str, seconds: float) -> None:
        """Records a duration, which is reported in milliseconds."""
        with self._lock:
            if not self._is_pending:
                self._join()
            self._values[name].record(seconds * 1000)


class WorkerMetrics:
    """Holds the metrics of all endpoints of a worker. Its methods may be called from any thread."""

    def __init__(self, model: str, version: str, values_max: int) -> None:
        self._model, self._version = model, version
        self._values_max = values_max
        self._lock = threading.Lock()  # guards all below
        self._changed = threading.Condition(self._lock)
        self._pending: PendingReports[MetricsReport] = PendingReports(self._changed.notify_all)
        self._closed = False

    def endpoint_metrics(self, name: str) -> HandlerMetrics:
        """Returns the metrics of an endpoint."""
        return HandlerMetrics(self._pending, self._lock, self._model, self._version, name, self._values_max)

    def wait_for_reports(self, interval_s: float) -> bool:
        """Waits for the first entry, and then for an interval. Returns True if `close` was called, which ends both waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._pending or self._closed)
            return self._changed.wait_for(lambda: self._closed, interval_s)

    def take_reports(self) -> list[MetricsReport]:
        """Returns the reports that are due, one for each endpoint with entries."""
        with self._lock:
            return list(self._pending.take_reports())

    def close(self) -> None:
        """Ends every wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Reporter:
    """Sends the reports of each interval with entries, and the last ones at the end of its `with` block.

    Args:
        metrics: Metrics of the worker.
        interval_s: Time from the first entry to the report.
        send: Sends a report. It may block and must not raise. Called on the reporter's thread.
    """

    def __init__(self, metrics: WorkerMetrics, interval_s: float, send: Callable[[MetricsReport], None]) -> None:
        self._metrics = metrics
        self._interval_s = interval_s
        self._send = send
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Sends the last report, unless the parent takes too long to read it."""
        self._metrics.close()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._metrics.wait_for_reports(self._interval_s)
            for report in self._metrics.take_reports():  # after the last wait, so that entries from before the end are in it
                self._send(report)
