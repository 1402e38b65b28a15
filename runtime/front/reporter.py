"""Reports to the parent: outcomes of requests, comparisons of mirrored requests, metrics and events of workers."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from itertools import starmap

from base.ipc.control import ControlMessage
from base.ipc.front_door_control import ModelsRequested, RequestsSent, WorkerUnhealthy
from base.ipc.metrics_report import MetricsConfig
from base.telemetry.reports import process_report
from runtime.front.control_channel import ParentChannel
from runtime.front.telemetry.metrics import FrontMetrics, RequestMetrics
from runtime.front.telemetry.mirror_stats import MirrorStatsByRelease
from runtime.front.telemetry.outcomes import OutcomeCounters

REPEAT_S = 1.0
"""Interval in seconds at which a model that is not up is reported as requested again, in case the supervisor has started it in between."""


class FrontReporter:
    """Sends all counts when one of them is due. While the parent does not read, counts accumulate in bounded counters.

    Args:
        channel: Control channel to the parent.
        metrics: Configuration of metrics; None if they are disabled.

    Attributes:
        outcomes: Counts how requests to watched releases ended.
        mirror_stats: Compares mirrored requests.
        metrics: Records metrics; None if they are disabled.
    """

    def __init__(self, channel: ParentChannel, metrics: MetricsConfig | None) -> None:
        self._channel = channel
        self.outcomes = OutcomeCounters(self._report_soon, self._report_at_once)
        self.metrics = None if metrics is None else FrontMetrics(metrics, self._report_soon)
        self.mirror_stats = MirrorStatsByRelease(self._report_soon, self.metrics)
        self._unhealthy: list[WorkerUnhealthy] = []  # bounded, like the next one, by the number of workers in a table
        self._requests_sent: Counter[str] = Counter()
        self._requested_models: dict[str, float] = {}  # model → when it was last reported; bounded by the models of all tables
        self._unreported_models: set[str] = set()
        self._refusals: dict[str, RequestMetrics] = {}
        self._is_scheduled = False  # a report waits to be sent, and will include everything
        self._is_urgent_scheduled = False

    def on_worker_event(self, event: WorkerUnhealthy | RequestsSent) -> None:
        """Records an event of a worker for the next report."""
        if isinstance(event, RequestsSent):
            self._requests_sent[event.socket] += event.requests
        else:
            self._unhealthy.append(event)
        self._report_soon()

    def on_model_requested(self, model: str) -> None:
        """Counts a request that was refused because its model is not up, and tells the supervisor that the model is needed."""
        if self.metrics is not None:
            metrics = self._refusals.get(model) or self.metrics.endpoint_metrics(model, "", "")
            self._refusals[model] = metrics
            metrics.record_response(503)
        now = time.monotonic()
        if now - self._requested_models.get(model, -REPEAT_S) >= REPEAT_S:
            self._requested_models[model] = now
            self._unreported_models.add(model)
            self._report_at_once()

    def on_slow_turn(self, milliseconds: float) -> None:
        """Reports a slow turn of the event loop, if metrics are enabled."""
        if self.metrics is not None:
            self._channel.run_in_background(self._channel.send(process_report("front door", "LoopTurn", milliseconds)))

    async def report(self) -> None:
        """Sends all counts so far."""
        await self._channel.send_all(self._take_reports)

    def _report_soon(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._channel.run_in_background(self.report())

    def _report_at_once(self) -> None:
        """Sends what the supervisor acts on, without metrics, whose intervals must not become shorter because requests fail."""
        if not self._is_urgent_scheduled:
            self._is_urgent_scheduled = True
            self._channel.run_in_background(self._channel.send_all(self._take_urgent))

    def _take_urgent(self) -> Iterator[ControlMessage]:
        self._is_urgent_scheduled = False
        requested, self._unreported_models = self._unreported_models, set()
        if requested:
            yield ModelsRequested(sorted(requested))
        yield from self.outcomes.take_reports()

    def _take_reports(self) -> Iterator[ControlMessage]:
        self._is_scheduled = False
        unhealthy, self._unhealthy = self._unhealthy, []
        requests_sent, self._requests_sent = self._requests_sent, Counter()
        yield from self.outcomes.take_reports()
        yield from self.mirror_stats.take_reports()
        yield from unhealthy
        yield from starmap(RequestsSent, requests_sent.items())
        if self.metrics is not None:
            yield from self.metrics.take_reports()
