"""Workers: throughput by their number, for a model that mostly waits."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmark import pexdock
from benchmark.load import Circumstances, Measured
from benchmark.parts.part import HEAD, Part, cells, data, folder, link_base, rate, rounds, source
from benchmark.tables import table

SLEEP_S = 0.005
COUNTS = (1, 2, 4, 8)


def run(given: Circumstances) -> Part:
    """Measures a model that takes 5 ms for a batch of one row, with 1 to 8 workers."""
    with folder() as scratch, folder() as dist:
        link_base(given, dist)
        pexdock.build_model(dist, pexdock.write_project(scratch, "sleepy", source("sleepy", batch=1, sleep_s=SLEEP_S)))
        variants = {str(count): partial(_one, given, dist, count) for count in COUNTS}
        found = rounds(variants, given.rounds)
    first = found[str(COUNTS[0])]
    lines = table(["workers", *HEAD], [[count, *cells(each, first)] for count, each in found.items()])
    lines += [f"A batch is one row and sleeps {SLEEP_S * 1e3:g} ms; 64 connections. The ratio should be the number of workers.\n"]
    return Part("Workers of one release", lines, data(found))


def _one(given: Circumstances, dist: Path, workers: int) -> Measured:
    with folder() as scratch, pexdock.serving(scratch, dist, {"workers_per_release": workers}) as it:
        rate(f"{it.url}/sleepy", 64, given._replace(seconds=1, tries=1))
        return rate(f"{it.url}/sleepy", 64, given)
