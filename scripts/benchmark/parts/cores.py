"""Cores: the CPU time of each process per request, and the upper limit of throughput that follows from it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmark import pexdock
from benchmark.load import Circumstances, Measured
from benchmark.parts.part import Part, folder, link_base, rate
from benchmark.plots import number
from benchmark.processes import name, running_s
from benchmark.tables import table

CONNECTIONS = (1, 64, 256)

NOTE = """\
The benchmark's scikit-learn model, one row per request. Medians of the rounds. `all cores full` is the rate of the machine if no core were
ever idle, including the load generator; `front door full` is that of one front door if it never waited. Both use the CPU time of a
request at this load, which other processes on the same cores increase.
"""


class Use(NamedTuple):
    """A measurement, and the CPU time in µs of each process per request."""

    measured: Measured
    front_door_us: float
    worker_us: float
    generator_us: float
    cores: float

    @property
    def all_us(self) -> float:
        """Returns the CPU time per request of all processes together."""
        return self.front_door_us + self.worker_us + self.generator_us


def run(given: Circumstances) -> Part:
    """Measures one connection, and many."""
    found: dict[int, list[Use]] = {count: [] for count in CONNECTIONS}
    with folder() as dist:
        link_base(given, dist)
        pexdock.build_model(dist)
        for _ in range(given.rounds):
            with folder() as scratch, pexdock.serving(scratch, dist) as it:
                rate(f"{it.url}/predict", 64, given._replace(seconds=1, tries=1))
                for count in CONNECTIONS:
                    found[count].append(_use(it, count, given))
    head = [
        "connections",
        "requests/s",
        "front door µs",
        "worker µs",
        "generator µs",
        "cores used",
        "all cores full",
        "front door full",
    ]
    rows = [_row(count, uses) for count, uses in found.items()]
    return Part("Cores", [*table(head, rows), NOTE], {str(count): [_data(use) for use in uses] for count, uses in found.items()})


def _use(it: pexdock.Pexdock, connections: int, given: Circumstances) -> Use:
    pids = {name(pid): pid for pid in it.processes}
    before = {role: running_s(pid) for role, pid in pids.items()}
    generator_s, began_s = _generator_s(), time.monotonic()
    measured = rate(f"{it.url}/predict", connections, given._replace(tries=1))
    elapsed_s, generator_s = time.monotonic() - began_s, _generator_s() - generator_s
    used = {role: running_s(pid) - before[role] for role, pid in pids.items()}
    requests = measured.requests_per_s * given.seconds
    each_us = [seconds / requests * 1e6 for seconds in (used["front door"], used["worker"], generator_s)]
    return Use(measured, *each_us, (sum(used.values()) + generator_s) / elapsed_s)


def _generator_s() -> float:
    """Returns the CPU time of load generators that have exited."""
    times = os.times()
    return times.children_user + times.children_system


def _row(connections: int, uses: Sequence[Use]) -> list[str]:
    rates = [use.measured.requests_per_s for use in uses]
    front_door, worker, generator, cores, all_us = (
        statistics.median(getattr(use, part) for use in uses) for part in ("front_door_us", "worker_us", "generator_us", "cores", "all_us")
    )
    spread = f"{number(statistics.median(rates))} ({number(min(rates))} to {number(max(rates))})"
    most = (os.cpu_count() or 1) * 1e6 / all_us
    return [str(connections), spread, *map(number, (front_door, worker, generator, cores, most, 1e6 / front_door))]


def _data(use: Use) -> dict[str, Any]:
    parts = {key: round(value, 3) for key, value in use._asdict().items() if key != "measured"}
    return {"requests_per_s": round(use.measured.requests_per_s), **parts}
