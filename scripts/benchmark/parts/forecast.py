"""Forecast: the example model that fits its series in the request, against the same fits in a plain Python loop."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from benchmark import pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import Part, folder, link_base
from benchmark.plots import number
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
began = time.monotonic()
history = pl.read_parquet(sys.argv[1])
frames = [
    forecast_series(rows, 7, 0.9, frequency="day").insert_column(0, pl.lit(name, pl.String).alias("series"))
    for (name,), rows in history.group_by("series", maintain_order=True)
]
pl.concat(frames).write_parquet(sys.argv[2])
print(time.monotonic() - began)
"""
"""Reads and writes the same files as the clients of the model, and has fitted one series before."""

ABOUT = """\
Each series has 84 daily values with a week and holidays, and is fitted and forecast for 7 days. The request and the response are Parquet.
Medians; `×` is the speed-up over the loop, which runs in one process. All have one thread for linear algebra.
"""


def run(given: Circumstances) -> Part:
    """Measures requests with 1 to 10 000 series by one and two workers, and a loop over the same series in one process."""
    found: dict[str, dict[int, list[float]]] = {"a plain loop": {}, "1 worker": {}, "2 workers": {}}
    with folder() as scratch, folder() as dist:
        link_base(given, dist)
        pexdock.build_model(dist, PROJECT)
        files = {count: _generated(scratch, count) for count in SERIES}
        for count, file in files.items():
            found["a plain loop"][count] = _repeated(count, given, partial(_loop, file))
        for workers in (1, 2):
            with folder() as place, pexdock.serving(place, dist, SETTINGS | {"workers_per_release": workers}) as it:
                for count, file in files.items():
                    found[f"{workers} worker{'s' * (workers > 1)}"][count] = _repeated(count, given, partial(_asked, it.url, file))
    loop = found["a plain loop"]
    rows = [[name, *(_cell(times[count], loop[count]) for count in SERIES)] for name, times in found.items()]
    lines = table(["seconds", *(f"{number(count)} series" for count in SERIES)], rows)
    return Part("Forecasts of series that are fitted in the request", [*lines, ABOUT], {"seconds": found})


def _generated(scratch: Path, count: int) -> Path:
    file = scratch / f"history-{count}.parquet"
    words = ["-m", "forecast.generate", "--series", str(count), "--output", str(file)]
    subprocess.run([sys.executable, *words], env=_environment(), check=True, stdout=subprocess.DEVNULL)
    return file


def _environment() -> dict[str, str]:
    return pexdock.environment() | {"PYTHONPATH": os.pathsep.join(map(str, (pexdock.ROOT, PROJECT)))}


def _repeated(count: int, given: Circumstances, measure: Callable[[], float]) -> list[float]:
    rounds = ROUNDS_OF_MANY if count == max(SERIES) else given.rounds
    taken = [measure() for _ in range(rounds)]
    print(f"{count} series: {statistics.median(taken):.2f} s", file=sys.stderr, flush=True)
    return taken


def _loop(file: Path) -> float:
    command = [sys.executable, "-c", LOOP, str(file), str(file.with_suffix(".loop"))]
    return float(subprocess.run(command, env=_environment(), check=True, capture_output=True, text=True).stdout)


def _asked(url: str, file: Path) -> float:
    """Returns the seconds of a request, whose answer must be that of the loop."""
    asked = urllib.request.Request(  # noqa: S310 - of this machine
        f"{url}/predictions/forecast", file.read_bytes(), {"Content-Type": PARQUET, "Accept": PARQUET}
    )
    began = time.monotonic()
    with urllib.request.urlopen(asked, timeout=LONGEST_S) as answer:  # noqa: S310 - of this machine
        body = answer.read()
    took = time.monotonic() - began
    assert_frame_equal(pl.read_parquet(io.BytesIO(body)), pl.read_parquet(file.with_suffix(".loop")))
    return took


def _cell(taken: list[float], loop: list[float]) -> str:
    seconds = statistics.median(taken)
    return f"{number(seconds)} (×{statistics.median(loop) / seconds:.2f})"
