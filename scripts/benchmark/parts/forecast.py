"""Forecast: the example model that fits its series in the request, against the same fits in a plain Python loop."""

from __future__ import annotations

import io
import os
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import polars as pl
from polars.testing import assert_frame_equal

from benchmark import pexdock
from benchmark.load import Circumstances
from benchmark.parts.part import Part, folder, link_base
from benchmark.plots import number
from benchmark.processes import ServerFailed, cpu_s, name, pss_bytes
from benchmark.tables import table

PROJECT = pexdock.ROOT / "models/forecast"
PARQUET = "application/vnd.apache.parquet"
SERIES = (1, 100, 10_000)
LONGEST_S = 3600
SETTINGS = {"request_timeout_s": LONGEST_S, "job_worker_nice": 0}
ROLES = ("front door", "job runner")
"""Processes whose memory is shown: a request goes through the one, and a job through both."""

POLL_S = 0.5
"""Interval at which memory is read, and at which a client asks for the state of its job."""

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
algebra. A job is one request with `Prefer: respond-async`, from its submission to the last byte of its result; job workers start when there
is work, and otherwise a job is like a request to as many workers. Memory is the largest proportional set size (PSS) while the 10 000 series
were computed.
"""


class Taken(NamedTuple):
    """The time of a forecast of all series, the CPU time of all processes that took part, and the largest memory of each role in bytes."""

    wall_s: float
    cpu_s: float
    memory_bytes: Mapping[str, int] = {}


def run(given: Circumstances) -> Part:
    """Measures requests with 1 to 10 000 series by one and two workers, jobs, and a loop over the same series in one process, in turn."""
    with folder() as scratch, folder() as dist, ExitStack() as stack:
        link_base(given, dist)
        pexdock.build_model(dist, PROJECT)
        takers: dict[str, Callable[[Path], Taken]] = {"a plain loop": _loop}
        for workers in (1, 2):
            place = stack.enter_context(folder())
            chosen = SETTINGS | {"workers_per_release": workers, "job_workers": workers, "state_path": place / "state"}
            it = stack.enter_context(pexdock.serving(place, dist, chosen))
            takers[f"{workers} worker{'s' * (workers > 1)}"] = partial(_asked, it)
        takers["a job on 2 workers"] = partial(_as_job, it)
        found: dict[str, dict[int, list[Taken]]] = {title: {} for title in takers}
        for count in SERIES:
            file = _generated(scratch, count)
            for _ in range(ROUNDS_OF_MANY if count == max(SERIES) else given.rounds):
                for title, take in takers.items():
                    found[title].setdefault(count, []).append(take(file))
                    print(f"{count} series: {title}: {found[title][count][-1].wall_s:.2f} s", file=sys.stderr, flush=True)
    loop = found["a plain loop"]
    rows = [
        [title, *(_cell(each[count], loop[count]) for count in SERIES), _cpu_ms(each), *(_memory_mb(each, role) for role in ROLES)]
        for title, each in found.items()
    ]
    counts = (f"{count:,} series".replace(",", " ") for count in SERIES)
    head = ["seconds", *counts, "CPU ms a series, of 10 000", *(f"memory of the {role}, MB" for role in ROLES)]
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
    wall, cpu = map(float, ended.stdout.split())
    return Taken(wall, cpu)


def _asked(it: pexdock.Pexdock, file: Path) -> Taken:
    """Sends a request, whose answer must be that of the loop."""
    return _taken(it, file, lambda: _sent(f"{it.url}/predictions/forecast", file.read_bytes())[1])


def _as_job(it: pexdock.Pexdock, file: Path) -> Taken:
    """Submits a job, whose result must be that of the loop."""

    def compute() -> bytes:
        place = _sent(f"{it.url}/predictions/forecast", file.read_bytes(), {"Prefer": "respond-async"})[0]["Location"]
        job = f"{it.url}/jobs/{place.rpartition('/')[2]}"
        while (state := msgspec.json.decode(_sent(job)[1])["state"]) in {"queued", "running"}:
            time.sleep(POLL_S)
        if state != "done":
            raise ServerFailed(f"the job is {state}")
        return _sent(f"{job}/result")[1]

    return _taken(it, file, compute)


def _sent(url: str, body: bytes | None = None, more: Mapping[str, str] | None = None) -> tuple[Mapping[str, str], bytes]:
    """Sends a request, and returns headers and body of its answer."""
    headers = {"Content-Type": PARQUET, "Accept": PARQUET if url.endswith(("/result", "/forecast")) else "*/*", **(more or {})}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=LONGEST_S) as answer:  # noqa: S310 - of this machine
        return answer.headers, answer.read()


def _taken(it: pexdock.Pexdock, file: Path, compute: Callable[[], bytes]) -> Taken:
    pids, cpu, began = it.processes, cpu_s(it.processes), time.monotonic()
    with _watched(it) as memory_bytes:
        body = compute()
        taken = Taken(time.monotonic() - began, cpu_s([*{*pids, *it.processes}]) - cpu, memory_bytes)
    assert_frame_equal(pl.read_parquet(io.BytesIO(body)), pl.read_parquet(file.with_suffix(".loop")))
    return taken


@contextmanager
def _watched(it: pexdock.Pexdock) -> Iterator[dict[str, int]]:
    """Yields the largest memory of each role so far, which a thread reads during a `with` block."""
    found: dict[str, int] = {}
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL_S):
            for pid in it.processes:
                with suppress(FileNotFoundError, ProcessLookupError):
                    role = name(pid)
                    if role in ROLES:
                        found[role] = max(found.get(role, 0), pss_bytes([pid]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()


def _cell(taken: Sequence[Taken], loop: Sequence[Taken]) -> str:
    seconds, of_loop = (statistics.median(one.wall_s for one in each) for each in (taken, loop))
    return f"{number(seconds)} (×{of_loop / seconds:.2f})"


def _cpu_ms(taken: Mapping[int, Sequence[Taken]]) -> str:
    return number(statistics.median(one.cpu_s for one in taken[max(SERIES)]) / max(SERIES) * 1e3)


def _memory_mb(taken: Mapping[int, Sequence[Taken]], role: str) -> str:
    found = [one.memory_bytes[role] for one in taken[max(SERIES)] if role in one.memory_bytes]
    return number(max(found) / 1e6) if found else "-"
