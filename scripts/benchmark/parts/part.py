"""The common elements of benchmarks of Pexdock alone: a model, rounds, and a part of the report."""

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
    """A part of the report.

    Attributes:
        title: Its heading.
        lines: Its Markdown.
        data: The same and more, for JSON.
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
    """Returns the module of a model at `/<name>` that returns a column after a pause."""
    return SOURCE.format(name=name, batch=batch, sleep_s=sleep_s).replace("    time.sleep(0)\n", "")


@contextmanager
def folder() -> Iterator[Path]:
    """Creates a temporary folder, and removes it afterwards."""
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as name:
        yield Path(name)


def link_base(given: Circumstances, dist: Path) -> None:
    """Links base into another dist/, since it has 200 MB."""
    for path in given.base.glob("base-*.pex"):
        (dist / path.name).hardlink_to(path)


def at(url: str) -> Running:
    """Returns the arguments of `measure` for a path of Pexdock."""
    return Running(Server("Pexdock", "pexdock", ""), url)


def rounds(variants: Mapping[str, Callable[[], Measured]], count: int) -> dict[str, list[Measured]]:
    """Measures all variants in turn, in each of `count` rounds."""
    found: dict[str, list[Measured]] = {name: [] for name in variants}
    for each in range(count):
        for name, take in variants.items():
            found[name].append(take())
            print(f"round {each + 1}/{count}: {name}: {found[name][-1].requests_per_s:.0f}/s", file=sys.stderr, flush=True)
    return found


def rate(url: str, connections: int, given: Circumstances) -> Measured:
    """Measures a closed loop of requests with one row."""
    with folder() as scratch:
        return measure(at(url), Work("", 1, connections), scratch, given)


def median(found: Sequence[Measured]) -> float:
    """Returns the requests per second."""
    return statistics.median(one.requests_per_s for one in found)


def cells(found: Sequence[Measured], first: Sequence[Measured]) -> list[str]:
    """Returns cells of a table: the rate with its spread, its ratio to that of the first variant, p50 and CPU."""
    rates = [one.requests_per_s for one in found]
    spread = f"{number(median(found))} ({number(min(rates))} to {number(max(rates))})"
    p50, cpu = (statistics.median(getattr(one, name) for one in found) for name in ("p50_ms", "cpu_us"))
    return [spread, f"×{median(found) / median(first):.2f}", number(p50), number(cpu)]


HEAD = ["requests/s", "ratio", "p50 ms", "CPU µs a request"]


def data(found: dict[str, list[Measured]]) -> dict[str, list[dict[str, float]]]:
    """Returns the measurements of all rounds for JSON."""
    return {name: [{key: round(value, 3) for key, value in one._asdict().items()} for one in each] for name, each in found.items()}
