"""Forecast: the example model that fits its series in the request, against the same fits in a plain Python loop."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple

import polars as pl
from polars.testing import assert_frame_equal

from benchmark import pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import Part, folder, link_base
from benchmark.plots import number
from benchmark.processes import cpu_s
from benchmark.tables import table

PROJECT = pexdock.ROOT / "models/forecast"
PARQUET = "application/vnd.apache.parquet"
SERIES = (1, 100, 10_000)
LONGEST_S = 3600
SETTINGS = {"request_timeout_s": LONGEST_S}
ROUNDS_OF_MANY = 1
"""Rounds of the largest number of series, which takes minutes."""

LOOP = """
import io, sys, time
import polars as pl
from forecast.fitting import forecast_series

history = pl.read_parquet(sys.argv[1])
forecast_series(history.filter(series=history["series"][0]), 7, 0.9, frequency="day")
began, cpu = time.monotonic(), time.process_time()
history = pl.read_parquet(sys.argv[1])
frames = [
    forecast_series(rows, 7, 0.9, frequency="day").insert_column(0, pl.lit(name, pl.String).alias("series"))
    for (name,), rows in history.group_by("series", maintain_order=True)
]
pl.concat(frames).write_parquet(sys.argv[2])
print(time.monotonic() - began, time.process_time() - cpu)
"""
"""Reads and writes the same files as the clients of the model, and has fitted one series before."""

ABOUT = """\
Each series has 84 daily values with a week and holidays, and is fitted and forecast for 7 days. The request and the response are Parquet.
Medians of rounds in which they take turns; `×` is the speed-up over the loop, which runs in one process. All have one thread for linear
algebra.
"""


class Taken(NamedTuple):
    """The time of a forecast of all series, and the CPU time of all processes that took part."""

    wall_s: float
    cpu_s: float


def run(given: Circumstances) -> Part:
    """Measures requests with 1 to 10 000 series by one and two workers, and a loop over the same series in one process, in turn."""
    with folder() as scratch, folder() as dist, ExitStack() as stack:
        link_base(given, dist)
        pexdock.build_model(dist, PROJECT)
        takers: dict[str, Callable[[Path], Taken]] = {"a plain loop": _loop}
        for workers in (1, 2):
            place = stack.enter_context(folder())
            chosen = SETTINGS | {"workers_per_release": workers, "state_path": place / "state"}
            it = stack.enter_context(pexdock.serving(place, dist, chosen))
            takers[f"{workers} worker{'s' * (workers > 1)}"] = partial(_asked, it)
        found: dict[str, dict[int, list[Taken]]] = {name: {} for name in takers}
        for count in SERIES:
            file = _generated(scratch, count)
            for _ in range(ROUNDS_OF_MANY if count == max(SERIES) else given.rounds):
                for name, take in takers.items():
                    found[name].setdefault(count, []).append(take(file))
                    print(f"{count} series: {name}: {found[name][count][-1].wall_s:.2f} s", file=sys.stderr, flush=True)
    loop = found["a plain loop"]
    rows = [[name, *(_cell(each[count], loop[count]) for count in SERIES), _cpu_ms(each)] for name, each in found.items()]
    head = ["seconds", *(f"{count:,} series".replace(",", " ") for count in SERIES), "CPU ms a series, of 10 000"]
    return Part("Forecasts of series that are fitted in the request", [*table(head, rows), ABOUT], {"taken": found})


def _generated(scratch: Path, count: int) -> Path:
    file = scratch / f"history-{count}.parquet"
    words = ["-m", "forecast.generate", "--series", str(count), "--output", str(file)]
    subprocess.run([sys.executable, *words], env=_environment(), check=True, stdout=subprocess.DEVNULL)
    return file


def _environment() -> dict[str, str]:
    return pexdock.environment() | {"PYTHONPATH": os.pathsep.join(map(str, (pexdock.ROOT, PROJECT)))}


def _loop(file: Path) -> Taken:
    command = [sys.executable, "-c", LOOP, str(file), str(file.with_suffix(".loop"))]
    ended = subprocess.run(command, env=_environment(), check=True, capture_output=True, text=True)
    return Taken(*map(float, ended.stdout.split()))


def _asked(it: pexdock.Pexdock, file: Path) -> Taken:
    """Sends a request, whose answer must be that of the loop."""
    asked = urllib.request.Request(  # noqa: S310 - of this machine
        f"{it.url}/predictions/forecast", file.read_bytes(), {"Content-Type": PARQUET, "Accept": PARQUET}
    )
    pids, cpu, began = it.processes, cpu_s(it.processes), time.monotonic()
    with urllib.request.urlopen(asked, timeout=LONGEST_S) as answer:  # noqa: S310 - of this machine
        body = answer.read()
    taken = Taken(time.monotonic() - began, cpu_s(pids) - cpu)
    assert_frame_equal(pl.read_parquet(io.BytesIO(body)), pl.read_parquet(file.with_suffix(".loop")))
    return taken


def _cell(taken: Sequence[Taken], loop: Sequence[Taken]) -> str:
    seconds, of_loop = (statistics.median(one.wall_s for one in each) for each in (taken, loop))
    return f"{number(seconds)} (×{of_loop / seconds:.2f})"


def _cpu_ms(taken: Mapping[int, Sequence[Taken]]) -> str:
    return number(statistics.median(one.cpu_s for one in taken[max(SERIES)]) / max(SERIES) * 1e3)
