"""Front doors: throughput by their number, on cores that they share with the load generator."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from benchmark import pexdock
from benchmark.load import Circumstances, Measured
from benchmark.parts.part import HEAD, Part, cells, data, folder, link_base, rate, rounds, source
from benchmark.tables import table

COUNTS = (1, 2)
CONNECTIONS = (64, 256)

NOTE = """\
The model answers with a column, in one worker. Front doors, worker and load generator share the same cores, so more front doors can
only help if cores are idle with one; the CPU time per request shows their cost.
"""


def run(given: Circumstances) -> Part:
    """Measures a model that costs nothing, with 1 and 2 front doors."""
    with folder() as scratch, folder() as dist:
        link_base(given, dist)
        pexdock.build_model(dist, pexdock.write_project(scratch, "quick", source("quick")))
        variants = {
            f"{doors}, {connections} connections": partial(_one, given, dist, doors, connections)
            for connections in CONNECTIONS
            for doors in COUNTS
        }
        found = rounds(variants, given.rounds)
    rows = []
    for name, each in found.items():
        doors, connections = name.split(", ", 1)
        rows.append([doors, connections, *cells(each, found[f"{COUNTS[0]}, {connections}"])])
    return Part("Front doors", [*table(["front doors", "load", *HEAD], rows), NOTE], data(found))


def _one(given: Circumstances, dist: Path, doors: int, connections: int) -> Measured:
    with folder() as scratch, pexdock.serving(scratch, dist, {"front_doors": doors}) as it:
        rate(f"{it.url}/quick", 64, given._replace(seconds=1, tries=1))
        return rate(f"{it.url}/quick", connections, given)
