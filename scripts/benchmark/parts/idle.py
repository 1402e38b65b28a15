"""Idle: the resources that each process of Pexdock uses without requests."""

from __future__ import annotations

import sys
import time

from benchmark import pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import Part, folder, link_base, source
from benchmark.processes import name, running_s, switches
from benchmark.tables import table

MODELS, WATCHED_S, SETTLE_S = 10, 60, 10
"""Time after the start in which state files are written and files are closed."""


def run(given: Circumstances) -> Part:
    """Measures ten models without requests."""
    with folder() as scratch, folder() as dist:
        link_base(given, dist)
        for each in range(MODELS):
            pexdock.build_model(dist, pexdock.write_project(scratch / "projects", f"idle{each}", source(f"idle{each}")))
        (scratch / "run").mkdir()
        with pexdock.serving(scratch / "run", dist) as it:
            time.sleep(SETTLE_S)
            found = _watch(it.processes)
    total_s = sum(used for _, used, _ in found)
    lines = table(["process", "CPU ms", "times woken"], [[who, f"{used * 1e3:.1f}", woken] for who, used, woken in found])
    share = total_s / WATCHED_S
    lines += [f"{MODELS} models, {WATCHED_S} s, no request: {share:.3%} of a core in all; the target is under 0.1 %.\n"]
    return Part("Idle", lines, {"seconds": WATCHED_S, "core_share": share, "processes": found})


def _watch(pids: list[int]) -> list[tuple[str, float, int]]:
    """Returns the name, CPU seconds and wake-ups of each process."""
    print(f"watching {len(pids)} idle processes for {WATCHED_S} s", file=sys.stderr)
    before = {pid: (running_s(pid), switches(pid)) for pid in pids}
    time.sleep(WATCHED_S)
    return [(name(pid), running_s(pid) - before[pid][0], switches(pid) - before[pid][1]) for pid in pids]
