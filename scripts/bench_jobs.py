"""Measures jobs: what they cost interactive requests, how many pass through the queue, and how long one takes.

Requests come at a constant rate, without jobs and while jobs fill the other cores, in turns.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from benchmark import machine
from benchmark.load import GENERATOR, compile_generator
from job_driver import Jobs
from supervisor_harness import Supervised
from tinypex import times, write_tiny

BURNS = """
    import time
    import polars as pl
    import base.service as svc

    @svc.endpoint("/burns", batched=False)
    def predict(records_df: pl.DataFrame, context: svc.Context) -> dict[str, float]:
        ends, count = time.monotonic() + records_df["x"][0], 0.0
        while time.monotonic() < ends and not context.cancelled():
            count += sum(i * i for i in range(100_000))
        return {"count": count}
"""

TEXT = """# Jobs

`scripts/bench-jobs` writes this page, with a model that multiplies one row, real processes and clients over HTTP.

## Requests beside jobs

{rate} requests a second to one model, without jobs and while {jobs} of another model fill a core each, in turns. Medians of {rounds}
rounds of {seconds:g} s; in parentheses the middle half of the rounds.

| | without jobs | beside jobs | difference |
|---|---|---|---|
{latencies}

## The queue

Each client submits one job after the other while the only job worker is busy. Then all of them run, one at a time. A job is stored before
the answer 202, and its result before it is done, both with the files flushed to the disk.

| jobs that wait | clients | accepted a second | ended a second |
|---|---|---|---|
{queues}

A job of one row, submitted with `wait`, from the request to its result: median {alone_ms:.1f} ms, p90 {alone_p90_ms:.1f} ms ({alone} jobs).

## Machine

{facts}
"""

_BODY = b'[{"x": 3}]'


def measure(port: int, rate: int, seconds: float, folder: Path) -> dict[str, float]:
    """Returns what the generator has measured."""
    head = f"POST /twice HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n"
    request = folder / "request"
    request.write_bytes(head.encode() + _BODY)
    done = subprocess.run([GENERATOR, str(port), str(rate), str(seconds), "64", request], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def submit(port: int, path: str, prefer: str, calls: int) -> list[tuple[int, float]]:
    """Sends requests one after the other. Returns the status and the seconds of each."""
    found = []
    headers = {"content-type": "application/json", "prefer": prefer}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=600)) as connection:
        for _ in range(calls):
            began_s = time.perf_counter()
            connection.request("POST", path, _BODY, headers)
            answer = connection.getresponse()
            answer.read()
            found.append((answer.status, time.perf_counter() - began_s))
    return found


def measure_queue(port: int, jobs: Jobs, count: int, clients: int) -> tuple[float, float]:
    """Returns how many jobs a second are accepted, and how many then end, once workers run. Each client submits as many as the others."""
    blocking = jobs.submit("burns", "/burns", [{"x": 3600.0}]).id
    jobs.until(blocking, "running", deadline_s=_START_S)  # it has the only worker, so that all others wait
    began_s = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        for found in threads.map(lambda _: submit(port, "/twice", "respond-async", count // clients), range(clients)):
            if {status for status, _ in found} != {202}:
                raise SystemExit(f"a job was not accepted: {found}")
    accepted_s = time.perf_counter() - began_s
    waiting = [job.id for job in jobs.list() if job.model == "twice" and not job.state.is_final]
    last = max(waiting, key=lambda job_id: jobs.get(job_id).created_at)
    jobs.cancel(blocking)
    jobs.until(blocking)
    began_s = time.perf_counter()
    jobs.until(last, deadline_s=600)
    return count / accepted_s, len(waiting) / (time.perf_counter() - began_s)


def main() -> int:
    """Prints and writes the results."""
    parser = argparse.ArgumentParser(prog="scripts/bench-jobs", description=__doc__)
    parser.add_argument("--rate", type=int, default=300, help="requests per second")
    parser.add_argument("--seconds", type=float, default=5, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=1, help="jobs that run at a time")
    parser.add_argument("--queued", type=int, nargs="+", default=[10, 100, 1000], help="jobs that wait in the queue")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/jobs.md"))
    given = parser.parse_args()
    if reason := compile_generator():
        print(f"cannot compile the load generator: {reason}", file=sys.stderr)
        return 1
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.facts().items())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = Supervised(folder, job_workers=given.jobs)
        run.turns_checked = False
        write_tiny(run.dist / "twice.pex", "twice", module=times(2, "/twice"))
        write_tiny(run.dist / "burns.pex", "burns", module=BURNS)
        with run:
            jobs, port = Jobs(folder / "state", run.run_path), urlsplit(run.state()["address"]).port
            assert port is not None
            idle, busy = list[dict[str, float]](), list[dict[str, float]]()
            for _ in range(given.rounds):
                idle.append(measure(port, given.rate, given.seconds, folder))
                burning = [jobs.submit("burns", "/burns", [{"x": 3600.0}]).id for _ in range(given.jobs)]
                for job_id in burning:
                    jobs.until(job_id, "running", deadline_s=_START_S)
                measure(port, given.rate, 3.0, folder)  # until the worker has started
                busy.append(measure(port, given.rate, given.seconds, folder))
                for job_id in burning:
                    jobs.cancel(job_id)
                    jobs.until(job_id)
            submit(port, "/twice", "respond-async, wait=60", 5)  # until its worker has started
            alone = [seconds * 1000 for _, seconds in submit(port, "/twice", "respond-async, wait=60", _ALONE)]
            queues = []
            for count in given.queued:
                for clients in (1, 8):
                    accepted, ended = measure_queue(port, jobs, count, clients)
                    queues.append(f"| {count // clients * clients} | {clients} | {accepted:.0f} | {ended:.0f} |")
                    print(queues[-1], flush=True)
    text = TEXT.format(
        rate=given.rate,
        jobs=f"{given.jobs} jobs" if given.jobs > 1 else "a job",
        rounds=given.rounds,
        seconds=given.seconds,
        latencies="\n".join(_line(key, idle, busy) for key in ("p50_ms", "p99_ms", "failed")),
        queues="\n".join(queues),
        alone_ms=statistics.median(alone),
        alone_p90_ms=statistics.quantiles(alone, n=10)[-1],
        alone=_ALONE,
        facts=facts,
    )
    given.output.write_text(text)
    print(text)
    return 0


_ALONE = 50

_START_S = 600.0
"""Job workers are nice, so on a busy machine they take long to start."""


def _line(key: str, idle: list[dict[str, float]], busy: list[dict[str, float]]) -> str:
    without, with_jobs = ([each[key] for each in found] for found in (idle, busy))
    medians = [statistics.median(each) for each in (without, with_jobs)]
    growth = f"{100 * (medians[1] / medians[0] - 1):+.0f} %" if medians[0] else ""
    cells = [
        f"{median:.2f} ({low:.2f} to {high:.2f})"
        for median, (low, _, high) in zip(medians, map(_quartiles, (without, with_jobs)), strict=True)
    ]
    return f"| {key.replace('_', ', ')} | {' | '.join(cells)} | {growth} |"


def _quartiles(found: list[float]) -> list[float]:
    return statistics.quantiles(found, n=4) if len(found) > 1 else 3 * found


if __name__ == "__main__":
    sys.exit(main())
