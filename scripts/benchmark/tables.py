"""Medians, ratios to the best peer, and Markdown tables of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from benchmark.load import Measured, Work
from benchmark.plots import number
from benchmark.rounds import Results
from benchmark.servers import Server

OURS = "Pexdock"


class Metric(NamedTuple):
    """A column: its field, and whether more is better."""

    field: str
    title: str
    more_is_better: bool = False


RATE = Metric("requests_per_s", "requests/s", more_is_better=True)
P50, P99, P999 = Metric("p50_ms", "p50 ms"), Metric("p99_ms", "p99 ms"), Metric("p999_ms", "p99.9 ms")
CPU = Metric("cpu_us", "CPU µs a request")
METRICS = (RATE, P50, P99, P999, CPU)


class Comparison:
    """The measurements by server and work."""

    def __init__(self, servers: Sequence[Server], works: Sequence[Work], results: Results) -> None:
        self.servers, self.works, self.results = servers, works, results

    def rounds(self, name: str, work: Work) -> list[Measured]:
        """Returns all measurements of a server and work."""
        return self.results.measured.get((name, work.name), [])

    def median(self, name: str, work: Work, metric: Metric) -> float | None:
        """Returns the median over the rounds."""
        found = [getattr(measured, metric.field) for measured in self.rounds(name, work)]
        return statistics.median(found) if found else None

    def best_peer(self, work: Work, metric: Metric) -> tuple[str, float] | None:
        """Returns the best peer among those with correct answers."""
        names = [server.name for server in self.servers if server.answers and server.name != OURS]
        found = [(name, value) for name in names if (value := self.median(name, work, metric)) is not None and not self.failed(name, work)]
        return (max if metric.more_is_better else min)(found, key=lambda each: each[1], default=None)

    def failed(self, name: str, work: Work) -> int:
        """Returns the number of requests without an answer of status 200, in all rounds."""
        return sum(measured.failed for measured in self.rounds(name, work))

    def ratio(self, work: Work, metric: Metric, name: str = OURS) -> float | None:
        """Returns the ratio of the median to that of the best peer; above 1 means more requests, or more time."""
        own, best = self.median(name, work, metric), self.best_peer(work, metric)
        return own / best[1] if own is not None and best and best[1] else None

    def lost(self) -> Iterable[tuple[Work, Metric, float]]:
        """Returns the ratios, as of `ratio`, where a peer is better than Pexdock."""
        for work in self.works:
            for metric in METRICS:
                if work.rate is not None and metric is RATE:
                    continue  # the rate is fixed
                ratio = self.ratio(work, metric)
                if ratio is not None and (ratio < 1 if metric.more_is_better else ratio > 1):
                    yield work, metric, ratio


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Returns the lines of a Markdown table, followed by an empty one."""
    return [_line(head), "|" + "---|" * len(head), *map(_line, rows), ""]


def _line(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def of_work(found: Comparison, work: Work) -> list[str]:
    """Returns one row for each server, the best first, with the spread of the rate over the rounds."""
    metrics = METRICS if work.rate is None else METRICS[1:]
    late = ["late µs"] if work.rate is not None else []
    names = [server.name for server in found.servers if found.rounds(server.name, work)]
    order = RATE if work.rate is None else P99
    names.sort(key=lambda name: found.median(name, work, order) or 0, reverse=order.more_is_better)
    rows = [
        [name, *(_cell(found, name, work, metric) for metric in metrics), found.failed(name, work), *_late(found, name, work)]
        for name in names
    ]
    return table(["server", *(metric.title for metric in metrics), "failed", *late], rows)


def _cell(found: Comparison, name: str, work: Work, metric: Metric) -> str:
    value = number(found.median(name, work, metric) or 0)
    if metric is not RATE:
        return value
    rates = [measured.requests_per_s for measured in found.rounds(name, work)]
    ratio = found.ratio(work, metric, name)
    spread = f" ({number(min(rates))} to {number(max(rates))})" if len(rates) > 1 else ""
    return f"{value}{spread}" + (f", ×{ratio:.2f}" if ratio is not None else "")


def _late(found: Comparison, name: str, work: Work) -> list[str]:
    if work.rate is None:
        return []
    return [number(statistics.median(measured.late_us for measured in found.rounds(name, work)))]
