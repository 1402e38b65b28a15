"""Reports that accumulate until somebody takes them."""

from __future__ import annotations

from base.ipc.metrics_report import MetricsReport
from base.telemetry.reports import EndpointMetrics, PendingReports, ReportSource


class Counter(ReportSource[tuple[str, int]]):
    def __init__(self, pending: PendingReports[tuple[str, int]], name: str) -> None:
        super().__init__(pending)
        self.name, self.count = name, 0

    def increment(self) -> None:
        if not self._is_pending:
            self._join()
        self.count += 1

    def _build_report(self) -> tuple[str, int]:
        report, self.count = (self.name, self.count), 0
        return report


def test_the_first_entry_calls_back_and_later_ones_do_not() -> None:
    """One call for all sources, until their reports are taken."""
    calls: list[int] = []
    pending: PendingReports[tuple[str, int]] = PendingReports(lambda: calls.append(len(pending)))
    one, other = Counter(pending, "one"), Counter(pending, "other")
    for source in (other, one, other):
        source.increment()
    assert (calls, len(pending)) == ([0], 2)
    assert list(pending.take_reports()) == [("other", 2), ("one", 1)]
    assert not pending
    one.increment()
    assert calls == [0, 0]
    assert list(pending.take_reports()) == [("one", 1)]


def test_what_comes_while_reports_are_taken_is_in_exactly_one_of_them() -> None:
    """Before its source's turn it is in this report, and after it in the next."""
    pending: PendingReports[tuple[str, int]] = PendingReports(lambda: None)
    first, second = Counter(pending, "first"), Counter(pending, "second")
    first.increment()
    second.increment()
    reports = pending.take_reports()
    assert next(reports) == ("first", 1)
    first.increment()
    second.increment()
    assert list(reports) == [("second", 2)]
    assert list(pending.take_reports()) == [("first", 1)]


def test_a_report_of_an_endpoint_has_its_names_and_starts_anew() -> None:
    pending: PendingReports[MetricsReport] = PendingReports(lambda: None)
    metrics = EndpointMetrics(pending, "iris", "1.0", "predict", 10, ["Errors"])
    metrics._join()
    metrics._counts["Requests"] += 2
    metrics._values["Latency"].record(3.0)
    (report,) = pending.take_reports()
    assert (report.model, report.version, report.endpoint, report.counts) == ("iris", "1.0", "predict", {"Errors": 0, "Requests": 2})
    assert report.summaries["Latency"].sample == [3.0]
    metrics._join()
    (report,) = pending.take_reports()
    assert (report.counts, report.summaries) == ({"Errors": 0}, {})
