"""Drop: the time from the rename of a pex into dist/ of a running Pexdock to its first answer, and the memory of each process then."""

from __future__ import annotations

import statistics
import time

from benchmark import forms, pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import Part, folder, link_base
from benchmark.processes import ServerFailed, name, pss_bytes, request
from benchmark.tables import table

DEADLINE_S = 60


def run(given: Circumstances) -> Part:
    """Measures a drop in each round, with a Pexdock of its own."""
    found = [_one(given) for _ in range(given.rounds)]
    times, sizes = [each[0] for each in found], found[-1][1]
    lines = [f"From the rename into `dist/` to the first 200: {statistics.median(times):.2f} s ({min(times):.2f} to {max(times):.2f}).\n"]
    lines += table(["process", "PSS MB"], [[who, f"{size / 1e6:.0f}"] for who, size in sizes])
    return Part("A drop", lines, {"seconds": times, "pss_bytes": sizes})


def _one(given: Circumstances) -> tuple[float, list[tuple[str, int]]]:
    with folder() as scratch, folder() as dist, folder() as aside:
        link_base(given, dist)
        link_base(given, aside)
        built = pexdock.build_model(aside)
        with pexdock.serving(scratch, dist) as it:
            began = time.monotonic()
            built.rename(dist / built.name)
            _wait_for(f"{it.url}/predict", began + DEADLINE_S)
            return time.monotonic() - began, [(name(pid), pss_bytes([pid])) for pid in it.processes]


def _wait_for(url: str, deadline: float) -> None:
    body = forms.RECORDS.body(forms.rows(1))
    while request(url, body)[0] != 200:
        if time.monotonic() > deadline:
            raise ServerFailed(f"{url} does not answer within {DEADLINE_S} s of the drop")
        time.sleep(0.01)
