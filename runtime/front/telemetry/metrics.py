"""What a front door measures of each endpoint, until it is reported. Everything here runs in the loop's thread.

The two verbs of an `EndpointMeasures` are all that the rest of the front door knows of measuring; whoever wants to show requests in
another way begins there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from base.ipc.control import MetricsConfig, MetricsReport
from base.telemetry.metrics import Reservoir

if TYPE_CHECKING:
    from runtime.front.requests.request import InferenceRequest

CLIENT_CLOSED_REQUEST = 499
"""The status that access logs give to a request whose client hung up; no client ever sees it."""

now_s = time.perf_counter
"""The clock of all times here. The loop's own stands still within one turn."""


class RequestMetrics:
    """One endpoint, from one report to the next."""

    def __init__(self, recorder: FrontMetrics, model: str, version: str, endpoint: str) -> None:
        self._recorder = recorder
        self._names = model, version, endpoint
        self._noted = False
        self._clear()

    def record_response(self, status: int, began_s: float = 0.0) -> None:
        """A request has ended.

        Args:
            status: of its answer; of the problem that broke it off, where it was streamed; `ABANDONED`.
            began_s: `now_s` when its body was whole; 0 for one that was refused before it was decoded, which has no latency.
        """
        self._note()
        self._requests += 1
        if began_s:
            self._latency.record((now_s() - began_s) * 1000)
        if status >= 400:
            self._errors += status >= 500
            self._abandoned += status == CLIENT_CLOSED_REQUEST
            self._client_errors += status < 500 and status != CLIENT_CLOSED_REQUEST

    def record_batch(self, requests: Sequence[InferenceRequest], rows: int) -> None:
        """One batch has been sent to a worker."""
        self._note()
        now = now_s()
        self._batches.record(rows)
        for request in requests:
            if request.queued_s:  # not one that is sent again
                self._queue.record((now - request.queued_s) * 1000)
                request.queued_s = 0.0

    def take(self) -> MetricsReport:
        """All since the last time."""
        counts = {
            "Requests": self._requests,
            "Errors": self._errors,
            "ClientErrors": self._client_errors,
            "Abandoned": self._abandoned,
        }
        collected = {"Latency": self._latency, "QueueTime": self._queue, "BatchSize": self._batches}
        self._noted = False
        self._clear()
        values = {name: each.summary() for name, each in collected.items() if each}
        return MetricsReport(int(time.time() * 1000), *self._names, counts, values)

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self._recorder.note(self)

    def _clear(self) -> None:
        values_max = self._recorder.values_max
        self._requests = self._errors = self._client_errors = self._abandoned = 0
        self._latency, self._queue, self._batches = Reservoir(values_max), Reservoir(values_max), Reservoir(values_max)


class FrontMetrics:
    """All endpoints of a front door. While nothing is measured it arms no timer.

    Args:
        due: called when an interval with measures is over; it should `take` them, soon.
    """

    def __init__(self, measuring: MetricsConfig, due: Callable[[], None]) -> None:
        self.values_max = measuring.values_max
        self._interval_s = measuring.interval_s
        self._due = due
        self._noted: list[RequestMetrics] = []

    def endpoint_metrics(self, model: str, version: str, endpoint: str) -> RequestMetrics:
        """What an endpoint tells its measures."""
        return RequestMetrics(self, model, version, endpoint)

    def note(self, endpoint: RequestMetrics) -> None:
        """The endpoint has something to report."""
        if not self._noted:
            asyncio.get_running_loop().call_later(self._interval_s, self._due)
        self._noted.append(endpoint)

    def take_reports(self) -> Iterator[MetricsReport]:
        """What is to be reported, endpoint by endpoint: with very many of them the loop may turn in between."""
        noted, self._noted = self._noted, []
        for each in noted:
            yield each.take()
