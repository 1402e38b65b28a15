"""What the parts about Pexdock alone share: a model to measure it with, rounds, and what a part gives to the report."""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.load import Circumstances, Measured, Work, measure
from benchmark.plots import number
from benchmark.servers import Running, Server


class Part(NamedTuple):
    """One part of the report.

    Attributes:
        title: its heading.
        lines: Markdown below it.
        data: the same and more, for JSON.
    """

    title: str
    lines: Sequence[str]
    data: dict[str, Any]


SOURCE = """\
import time

import base.service as svc
from base.schema import Schema
import polars as pl


class Piece(Schema):
    width: pl.Float64
    length: pl.Float64
    depth: pl.Float64


@svc.endpoint(path="/{name}", batch_max_size={batch})
def predict(records_df: Piece.DataFrame) -> pl.Series:
    time.sleep({sleep_s})
    return records_df["width"]
"""


def source(name: str, batch: int = 64, sleep_s: float = 0) -> str:
    """The module of a model at `/<name>` that answers with a column, after a while."""
    return SOURCE.format(name=name, batch=batch, sleep_s=sleep_s).replace("    time.sleep(0)\n", "")


@contextmanager
def folder() -> Iterator[Path]:
    """A new one, which is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        yield Path(name)


def link_base(given: Circumstances, dist: Path) -> None:
    """Puts base into another dist/, without copying its 200 MB."""
    for path in given.base.glob("base-*.pex"):
        (dist / path.name).hardlink_to(path)


def at(url: str) -> Running:
    """What `measure` wants, of one path of Pexdock."""
    return Running(Server("Pexdock", "pexdock", ""), url)


def rounds(variants: Mapping[str, Callable[[], Measured]], count: int) -> dict[str, list[Measured]]:
    """Measures all variants in turn, so many times."""
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    for each in range(count):
        for name, take in variants.items():
            found[name].append(take())
            print(f"round {each + 1}/{count}: {name}: {found[name][-1].requests_per_s:.0f}/s", file=sys.stderr, flush=True)
    return found


def rate(url: str, connections: int, given: Circumstances) -> Measured:
    """One closed loop of one row a request."""
    with folder() as scratch:
        return measure(at(url), Work("", 1, connections), scratch, given)


def median(found: Sequence[Measured]) -> float:
    """Requests a second."""
    return statistics.median(one.requests_per_s for one in found)


def cells(found: Sequence[Measured], first: Sequence[Measured]) -> list[str]:
    """For a table: the rate with its spread, its ratio to the first variant's, p50 and CPU."""
    rates = [one.requests_per_s for one in found]
    spread = f"{number(median(found))} ({number(min(rates))} to {number(max(rates))})"
    p50, cpu = (statistics.median(getattr(one, name) for one in found) for name in ("p50_ms", "cpu_us"))
    return [spread, f"×{median(found) / median(first):.2f}", number(p50), number(cpu)]


HEAD = ["requests/s", "ratio", "p50 ms", "CPU µs a request"]


def data(found: dict[str, list[Measured]]) -> dict[str, list[dict[str, float]]]:
    """All rounds, for JSON."""
    return {name: [{key: round(value, 3) for key, value in one._asdict().items()} for one in each] for name, each in found.items()}
