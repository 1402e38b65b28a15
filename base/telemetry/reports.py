"""Reports that accumulate until they are taken. Pure: knows no clock and no thread.

A source, such as the metrics of one endpoint, accumulates from one report to the next. With its first entry it joins the pending reports,
which invoke a callback when the first source joins. The callback of front doors starts a timer; that of workers wakes a thread.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Generic, TypeVar

from base.ipc.metrics_report import MetricsReport, ValueSummary
from base.telemetry.reservoir import Reservoir

R = TypeVar("R")


class ReportSource(ABC, Generic[R]):
    """Accumulates entries from one report to the next.

    A method that adds an entry begins with `if not self._is_pending: self._join()`, so that only the first entry pays for a call.
    """

    def __init__(self, pending: PendingReports[R]) -> None:
        self._pending = pending
        self._is_pending = False

    def _join(self) -> None:
        self._is_pending = True
        self._pending.add_source(self)

    def take_report(self) -> R:
        """Returns a report of everything since the last one, and begins the next."""
        self._is_pending = False
        return self._build_report()

    @abstractmethod
    def _build_report(self) -> R:
        """Returns the report and resets everything that was accumulated."""


class PendingReports(Generic[R]):
    """Holds the sources that have something to report, in the order of their first entries.

    Args:
        on_first: Called when the first source joins; the reports should be taken soon after.
    """

    def __init__(self, on_first: Callable[[], object]) -> None:
        self._on_first = on_first
        self._sources: list[ReportSource[R]] = []

    def __len__(self) -> int:
        return len(self._sources)

    def add_source(self, source: ReportSource[R]) -> None:
        """Adds a source that has something to report and has not joined yet."""
        if not self._sources:
            self._on_first()
        self._sources.append(source)

    def take_reports(self) -> Iterator[R]:
        """Yields the report of each source. Sources may accumulate meanwhile: entries before a source's turn are in its report."""
        sources, self._sources = self._sources, []
        for source in sources:
            yield source.take_report()


class EndpointMetrics(ReportSource[MetricsReport]):
    """Accumulates counts and values of one endpoint.

    Args:
        pending: Reports that it joins.
        model, version, endpoint: Names that the reports carry.
        values_max: Size of the sample of each metric's values.
        counters: Counts that are reported even while they are 0.
    """

    def __init__(
        self, pending: PendingReports[MetricsReport], model: str, version: str, endpoint: str, values_max: int, counters: Iterable[str] = ()
    ) -> None:
        super().__init__(pending)
        self._names = model, version, endpoint
        self._new_values = partial(Reservoir, values_max)
        self._zeros = dict.fromkeys(counters, 0)
        self._reset()

    def _build_report(self) -> MetricsReport:
        summaries = {name: each.summary() for name, each in self._values.items()}
        report = MetricsReport(int(time.time() * 1000), *self._names, dict(self._counts), summaries)
        self._reset()
        return report

    def _reset(self) -> None:
        self._counts: defaultdict[str, int] = defaultdict(int, self._zeros)
        self._values: defaultdict[str, Reservoir] = defaultdict(self._new_values)


def process_report(process: str, name: str, value: float) -> MetricsReport:
    """Returns a report of one value of one of Pexdock's own processes; it names no model."""
    return MetricsReport(int(time.time() * 1000), "", "", process, {}, {name: ValueSummary(1, value, value, value, [value])})
