"""Measures a supervisor that takes and returns large tables: memory of front door and job runner, and latency of another model."""

from __future__ import annotations

import argparse
import http.client
import json
import re
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmark import machine
from process_children import children
from supervisor_harness import Supervised
from tinypex import write_tiny

MODEL = """
    from collections.abc import Iterator
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        a: pl.Float64
        b: pl.Int64
        c: pl.Float64

"""

MODELS = {
    "frames": """
    @svc.endpoint(path="/frames", batched=False)
    def predict(frames: Iterator[Row.DataFrame]) -> pl.DataFrame:
        return pl.concat([each.sum() for each in frames]).sum()
""",
    "lazy": """
    @svc.endpoint(path="/lazy", batched=False)
    def predict(records: Row.LazyFrame) -> pl.DataFrame:
        return records.sum().collect()
""",
    "doubled": """
    @svc.endpoint(path="/doubled")
    def predict(frames: Iterator[Row.DataFrame]) -> Iterator[Row.DataFrame]:
        for each in frames:
            yield each.with_columns(pl.col("a") * 2)
""",
    "whole": """
    @svc.endpoint(path="/whole", batched=False)
    def predict(records_df: pl.DataFrame) -> pl.DataFrame:
        numbers = pl.int_range(records_df["rows"][0], eager=True)
        return pl.DataFrame({"a": numbers / 2, "b": numbers, "c": numbers / 4})
""",
}
"""Handlers that take their rows as frames, as a lazy frame, that return as many rows in Arrow, and that return rows as a whole."""

MEDIA_TYPES = {"arrow": "application/vnd.apache.arrow.stream", "parquet": "application/vnd.apache.parquet"}
MEASURED = (
    ("arrow", "frames", False),
    ("arrow", "lazy", False),
    ("parquet", "frames", False),
    ("arrow", "doubled", False),
    ("one row", "whole", False),
    ("arrow", "frames", True),
    ("parquet", "frames", True),
    ("one row", "whole", True),
)
"""Tables, handlers, and whether the request is a job."""

FINAL = {"done", "failed", "cancelled", "expired"}
SCHEMA = pa.schema({"a": pa.float64(), "b": pa.int64(), "c": pa.float64()})
BATCH_ROWS = 1_000_000

TEXT = """# Large tables

`scripts/bench-tables` writes this page. A client sends a table of {gb:g} GB (three columns of numbers) over loopback, and reads the
answer. Another one, a process of its own, sends requests of one row to another model, one after the other, before and meanwhile. Memory is
the highest private memory of front door and job runner (`Private_Clean` and `Private_Dirty` of `/proc/PID/smaps_rollup`), which have
{idle_mb} MB while they are idle. `doubled` streams an answer of the size of the table in Arrow; `whole` gets one row, and returns a table
of {gb:g} GB as a whole. As a job, the seconds include the download of the result.

| table | handler | seconds | front door, MB | job runner, MB | p50 beside, ms | p99 beside, ms |
|---|---|---|---|---|---|---|
{lines}

Without a large table, p50 is {p50_ms:.1f} ms and p99 {p99_ms:.1f} ms.

## Machine

{facts}
"""


class Measured(NamedTuple):
    """What was measured beside a request."""

    seconds: float
    memory_mb: list[float]
    p50_ms: float
    p99_ms: float


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench-tables", description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="size of the tables")
    parser.add_argument("--folder", type=Path, help="folder for the tables and their files, on a disk")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/tables.md"))
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        return ask(options.ask)
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.facts().items())
    with tempfile.TemporaryDirectory(dir=options.folder) as name, served(Path(name), options.gb) as (address, pids):
        one_row = Path(name) / "row"
        one_row.write_text(json.dumps([{"rows": int(options.gb * 10**9) // 24}]))
        tables = {"arrow": write_arrow(Path(name) / "arrow", options.gb), "parquet": write_parquet(Path(name) / "parquet", options.gb)}
        tables["one row"] = one_row
        idle, usual = [private_mb(pid) for pid in pids], measure(address, pids, lambda: time.sleep(10))
        lines = []
        for kind, model, as_job in MEASURED:
            send = partial(send_table, address, f"/{model}", MEDIA_TYPES.get(kind, "application/json"), tables[kind], as_job=as_job)
            found = measure(address, pids, send)
            memory = " | ".join(f"{each:.0f}" for each in found.memory_mb)
            name_of = f"{model}, as a job" if as_job else model
            lines.append(f"| {kind} | {name_of} | {found.seconds:.1f} | {memory} | {found.p50_ms:.1f} | {found.p99_ms:.1f} |")
            print(lines[-1], flush=True)
    table, idle_mb = "\n".join(lines), " and ".join(f"{each:.0f}" for each in idle)
    text = TEXT.format(gb=options.gb, idle_mb=idle_mb, lines=table, p50_ms=usual.p50_ms, p99_ms=usual.p99_ms, facts=facts)
    options.output.write_text(text)
    return 0


@contextmanager
def served(folder: Path, gb: float) -> Iterator[tuple[str, list[int]]]:
    """Serves the models, and yields the address, and the processes of front door and job runner."""
    size = int(gb * 10**9)
    limits = {"table_max_bytes": 2 * size, "table_files_max_bytes": 6 * size, "request_max_rows": 10**9, "request_timeout_s": 600}
    limits |= {"response_max_bytes": 2 * size, "job_bodies_max_bytes": 4 * size, "job_workers": 1}
    limits["job_worker_nice"] = 0  # or its seconds would depend on what else runs
    supervised = Supervised(folder, scratch_path=folder / "scratch", **limits)
    supervised.turns_checked = False
    write_tiny(supervised.dist / "small.pex", "small")
    for name, handler in MODELS.items():
        write_tiny(supervised.dist / f"{name}.pex", name, module=MODEL + handler)
    with supervised:
        state = supervised.state()
        send_table(state["address"], "/small", "application/json", _one(folder), as_job=True)  # which starts the job runner
        yield state["address"], [*state["front_door_pids"], *job_runners(supervised.process.pid)]


def _one(folder: Path) -> Path:
    path = folder / "one"
    path.write_text('[{"x":1}]')
    return path


def job_runners(supervisor: int) -> list[int]:
    """Returns the process of the job runner."""
    return [pid for pid in children(supervisor) if b"runtime.job_runner" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def batches(gb: float) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a table, of 24 bytes each."""
    random = np.random.default_rng(0)
    for start in range(0, int(gb * 10**9) // 24, BATCH_ROWS):
        numbers = np.arange(start, start + BATCH_ROWS)
        yield pa.record_batch([random.random(BATCH_ROWS), numbers, random.random(BATCH_ROWS)], schema=SCHEMA)


def write_arrow(path: Path, gb: float) -> Path:
    """Writes the table as an Arrow stream."""
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in batches(gb):
            stream.write_batch(batch)
    return path


def write_parquet(path: Path, gb: float) -> Path:
    """Writes the table as a Parquet file."""
    with pq.ParquetWriter(path, SCHEMA) as file:
        for batch in batches(gb):
            file.write_batch(batch)
    return path


def send_table(address: str, path: str, media_type: str, table: Path, *, as_job: bool = False) -> None:
    """Sends a table, and reads the answer, or the result of the job."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600, blocksize=1024**2)
    headers = {"content-type": media_type, "content-length": str(table.stat().st_size), "accept": MEDIA_TYPES["arrow"]}
    with closing(connection), table.open("rb") as body:
        connection.request("POST", path, body, headers | ({"prefer": "respond-async"} if as_job else {}))
        answer = connection.getresponse()
        if as_job:
            location = f"/jobs/{json.load(answer)['id']}"
            while _state(connection, location) not in FINAL:
                time.sleep(0.2)
            connection.request("GET", f"{location}/result", headers={"accept": MEDIA_TYPES["arrow"]})
            answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        while answer.read(1024**2):
            pass


def _state(connection: http.client.HTTPConnection, location: str) -> str:
    connection.request("GET", location)
    state: str = json.load(connection.getresponse())["state"]
    return state


def measure(address: str, pids: list[int], call: Callable[[], None]) -> Measured:
    """Returns what is measured during a call."""
    ended, memory = threading.Event(), [[0.0] for _ in pids]

    def watch() -> None:
        while not ended.wait(0.05):
            for each, pid in zip(memory, pids, strict=True):
                each.append(private_mb(pid))

    watcher = threading.Thread(target=watch)
    command = [sys.executable, __file__, "--ask", address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asker:
        assert asker.stdin is not None
        assert asker.stdout is not None
        asker.stdout.readline()  # it has got its first answer
        watcher.start()
        began_s = time.perf_counter()
        try:
            call()
        finally:
            seconds = time.perf_counter() - began_s
            ended.set()
            watcher.join()
            asker.stdin.close()
            times = json.loads(asker.stdout.readline())
    p50_ms, p99_ms = np.quantile(times, [0.5, 0.99])
    return Measured(seconds, [max(each) for each in memory], p50_ms, p99_ms)


def ask(address: str) -> int:
    """Sends small requests until standard input ends, and prints their times in milliseconds. A process of its own runs it."""
    times = []
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
    with closing(connection):
        while not select.select([sys.stdin], [], [], 0.002)[0]:
            began_s = time.perf_counter()
            connection.request("POST", "/small", b'[{"x":1}]', {"content-type": "application/json"})
            connection.getresponse().read()
            if not times:
                print("ready", flush=True)
            times.append((time.perf_counter() - began_s) * 1000)
    print(json.dumps(times), flush=True)
    return 0


def private_mb(pid: int) -> float:
    """Returns the private memory of a process, in megabytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(found) for found in re.findall(r"^Private_(?:Clean|Dirty): +([0-9]+) kB$", text, re.MULTILINE)) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
