"""The targets of Pexdock relative to the best peer, and whether it reaches them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from benchmark.load import Work
from benchmark.plots import number
from benchmark.tables import CPU, OURS, P50, RATE, Comparison, Metric


class Target(NamedTuple):
    """A minimum or maximum of the ratio of Pexdock's median to that of the best peer."""

    work: str
    metric: Metric
    ratio: float


TARGETS = (
    Target("one row, 64 connections", RATE, 1.5),
    Target("one row, 256 connections", RATE, 1.5),
    Target("one row, 1 connection", P50, 1),
    Target("one row, 256 connections", CPU, 1),
    Target("1 000 rows, 16 connections", RATE, 2),
)

ARROW, ARROW_RATIO = "1 000 rows as Arrow, 16 connections", 10
"""Compares with Pexdock's own JSON of as many rows."""


def judge(found: Comparison) -> Iterator[list[str]]:
    """Returns a row for each target: its name, Pexdock, the best peer, target, ratio, and whether it is reached."""
    works = {work.name: work for work in found.works}
    for target in TARGETS:
        work = works[target.work]
        own, best = found.median(OURS, work, target.metric), found.best_peer(work, target.metric)
        if own is not None and best is not None:
            more = target.metric.more_is_better
            yield _row(work, target.metric, own, best, (target.ratio, more))
    own, json = (found.median(OURS, works[name], RATE) for name in (ARROW, TARGETS[-1].work))
    if own is not None and json is not None:
        yield _row(works[ARROW], RATE, own, ("Pexdock with JSON", json), (ARROW_RATIO, True))


def _row(work: Work, metric: Metric, own: float, best: tuple[str, float], target: tuple[float, bool]) -> list[str]:
    ratio, (wanted, more) = own / best[1], target
    reached = ratio >= wanted if more else ratio <= wanted
    limit = f"{'at least' if more else 'at most'} ×{wanted:g}"
    return [work.name, metric.title, number(own), f"{number(best[1])}, {best[0]}", limit, f"×{ratio:.2f}", "yes" if reached else "**no**"]
