"""Measures the latency of requests at a constant rate, without jobs and while jobs fill the other cores, in turns."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

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

_BODY = b'[{"x": 3}]'


def measure(port: int, rate: int, seconds: float, folder: Path) -> dict[str, float]:
    """Returns what the generator has measured."""
    head = f"POST /twice HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(_BODY)}\r\n\r\n"
    request = folder / "request"
    request.write_bytes(head.encode() + _BODY)
    done = subprocess.run([GENERATOR, str(port), str(rate), str(seconds), "64", request], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def main() -> int:
    """Prints the medians of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=300, help="requests per second")
    parser.add_argument("--seconds", type=float, default=10, help="duration of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="jobs that run at a time")
    given = parser.parse_args()
    if reason := compile_generator():
        print(f"cannot compile the load generator: {reason}", file=sys.stderr)
        return 1
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
                    jobs.until(job_id, "running")
                measure(port, given.rate, 3.0, folder)  # until the worker has started
                busy.append(measure(port, given.rate, given.seconds, folder))
                for job_id in burning:
                    jobs.cancel(job_id)
                    jobs.until(job_id)
    print(f"{given.rate} requests/s, {given.rounds} rounds of {given.seconds:g} s, {given.jobs} jobs")
    for key in ("p50_ms", "p99_ms", "failed"):
        without, with_jobs = (statistics.median(each[key] for each in found) for found in (idle, busy))
        growth = f"{100 * (with_jobs / without - 1):+.0f} %" if without else ""
        print(f"{key:8} without {without:8.3f}   with {with_jobs:8.3f}   {growth}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
