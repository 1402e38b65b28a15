"""What a worker measures of each endpoint, and the thread that reports it. Runs in the process that calls handlers.

Measures come from the serving thread and from the threads of caches. The reporting thread sleeps while nothing is measured, and is the
only one that may wait for whoever takes the reports: a parent that does not listen holds up no prediction.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Self

from base.ipc.control import MetricsConfig, MetricsReport
from base.telemetry.metrics import Reservoir

INTERVAL_VARIABLE = "PEXDOCK_EMF_INTERVAL_S"
VALUES_MAX_VARIABLE = "PEXDOCK_EMF_VALUES_MAX"

_CLOSE_S = 2.0
"""A parent that listens takes the last report at once."""


def metrics_config_from(environment: Mapping[str, str]) -> MetricsConfig | None:
    """What a supervisor wants of the worker that it started with this environment; None where it wants no measures."""
    if INTERVAL_VARIABLE not in environment:
        return None
    return MetricsConfig(float(environment[INTERVAL_VARIABLE]), int(environment[VALUES_MAX_VARIABLE]))


def metrics_environment(measuring: MetricsConfig | None) -> dict[str, str]:
    """What tells a worker how to measure. It is no control word, so that workers of an older base need not know it."""
    if measuring is None:
        return {}
    return {INTERVAL_VARIABLE: str(measuring.interval_s), VALUES_MAX_VARIABLE: str(measuring.values_max)}


class _Gathered:
    """Of one endpoint, since the last report."""

    def __init__(self, values_max: int) -> None:
        self.counts: Counter[str] = Counter()
        self.values: defaultdict[str, Reservoir] = defaultdict(partial(Reservoir, values_max))

    def measures(self, model: str, version: str, endpoint: str) -> MetricsReport:
        values = {name: each.summary() for name, each in self.values.items()}
        return MetricsReport(int(time.time() * 1000), model, version, endpoint, dict(self.counts), values)


class HandlerMetrics:
    """What one endpoint tells; from any thread."""

    def __init__(self, recorder: WorkerMetrics, endpoint: str) -> None:
        self._recorder = recorder
        self._endpoint = endpoint

    def increment(self, name: str) -> None:
        """It happened once more."""
        self._recorder.count(self._endpoint, name)

    def record_duration(self, name: str, seconds: float) -> None:
        """It took so long."""
        self._recorder.value(self._endpoint, name, seconds * 1000)


class WorkerMetrics:
    """All endpoints of a worker, from one report to the next. All methods may be called from any thread."""

    def __init__(self, model: str, version: str, values_max: int) -> None:
        self._model, self._version = model, version
        self._values_max = values_max
        self._lock = threading.Lock()  # guards all below
        self._changed = threading.Condition(self._lock)
        self._gathered: dict[str, _Gathered] = {}
        self._closed = False

    def endpoint_metrics(self, name: str) -> HandlerMetrics:
        """What an endpoint tells its measures."""
        return HandlerMetrics(self, name)

    def count(self, endpoint: str, name: str) -> None:
        """One more of this name."""
        with self._lock:
            self._of(endpoint).counts[name] += 1

    def value(self, endpoint: str, name: str, value: float) -> None:
        """One more value of this name."""
        with self._lock:
            self._of(endpoint).values[name].record(value)

    def wait_for_reports(self, interval_s: float) -> bool:
        """Waits until there is something to report, and then for the interval to end. Returns whether it was closed meanwhile."""
        with self._changed:
            self._changed.wait_for(lambda: self._gathered or self._closed)
            return self._changed.wait_for(lambda: self._closed, interval_s)

    def take_reports(self) -> list[MetricsReport]:
        """What is to be reported, by endpoint."""
        with self._lock:
            gathered, self._gathered = self._gathered, {}
        return [each.measures(self._model, self._version, name) for name, each in gathered.items()]

    def close(self) -> None:
        """Whoever waits for the end of an interval waits no longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _of(self, endpoint: str) -> _Gathered:
        """Under the lock."""
        found = self._gathered.get(endpoint)
        if found is None:
            if not self._gathered:
                self._changed.notify_all()
            found = self._gathered[endpoint] = _Gathered(self._values_max)
        return found


class Reporter:
    """Reports, while it is entered: once an interval in which something was measured, and at the end.

    Args:
        send: takes a report; may wait for whoever takes it, and must not raise. Called on the reporter's thread.
    """

    def __init__(self, recorder: WorkerMetrics, interval_s: float, send: Callable[[MetricsReport], None]) -> None:
        self._recorder = recorder
        self._interval_s = interval_s
        self._send = send
        self._thread = threading.Thread(target=self._run, name="measures", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Reports what is left, if somebody takes it soon."""
        self._recorder.close()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        closed = False
        while not closed:
            closed = self._recorder.wait_for_reports(self._interval_s)
            for measures in self._recorder.take_reports():  # after the last look, so that what was measured before the end is in it
                self._send(measures)
