"""Measures a supervisor that receives and returns large tables: memory of its front door, and latency of another model's requests."""

from __future__ import annotations

import argparse
import http.client
import re
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
}
"""Handlers that take their rows as frames, as a lazy frame, and that return as many rows in Arrow."""

MEDIA_TYPES = {"arrow": "application/vnd.apache.arrow.stream", "parquet": "application/vnd.apache.parquet"}
SCHEMA = pa.schema({"a": pa.float64(), "b": pa.int64(), "c": pa.float64()})
BATCH_ROWS = 1_000_000

TEXT = """# Large tables

`scripts/bench-tables` writes this page. A client sends a table of {gb:g} GB (three columns of numbers) over loopback, and reads the
answer. Another one sends requests of one row to another model, one after the other, before and meanwhile. Memory is the highest private
memory of the front door (`Private_Clean` and `Private_Dirty` of `/proc/PID/smaps_rollup`), which has {idle_mb:.0f} MB while it is idle.
`doubled` streams an answer of the size of the table in Arrow.

| table | handler | seconds | memory, MB | p50 beside, ms | p99 beside, ms |
|---|---|---|---|---|---|
{lines}

Without a large table, p50 is {p50_ms:.1f} ms and p99 {p99_ms:.1f} ms.

## Machine

{facts}
"""


class Measured(NamedTuple):
    """What was measured beside a request."""

    seconds: float
    memory_mb: float
    p50_ms: float
    p99_ms: float


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(prog="scripts/bench-tables", description=__doc__)
    parser.add_argument("--gb", type=float, default=2.0, help="size of the tables")
    parser.add_argument("--folder", type=Path, help="folder for the tables and their files, on a disk")
    parser.add_argument("--output", type=Path, default=Path("docs/benchmarks/tables.md"))
    options = parser.parse_args()
    facts = "\n".join(f"- {name}: {value}" for name, value in machine.facts().items())
    with tempfile.TemporaryDirectory(dir=options.folder) as name, served(Path(name), options.gb) as (address, pid):
        tables = {"arrow": write_arrow(Path(name) / "arrow", options.gb), "parquet": write_parquet(Path(name) / "parquet", options.gb)}
        idle_mb, usual = private_mb(pid), measure(address, pid, lambda: time.sleep(10))
        lines = []
        for kind, model in (("arrow", "frames"), ("arrow", "lazy"), ("parquet", "frames"), ("arrow", "doubled")):
            send = partial(send_table, address, f"/{model}", MEDIA_TYPES[kind], tables[kind])
            found = measure(address, pid, send)
            lines.append(f"| {kind} | {model} | {found.seconds:.1f} | {found.memory_mb:.0f} | {found.p50_ms:.1f} | {found.p99_ms:.1f} |")
            print(lines[-1], flush=True)
    table = "\n".join(lines)
    text = TEXT.format(gb=options.gb, idle_mb=idle_mb, lines=table, p50_ms=usual.p50_ms, p99_ms=usual.p99_ms, facts=facts)
    options.output.write_text(text)
    return 0


@contextmanager
def served(folder: Path, gb: float) -> Iterator[tuple[str, int]]:
    """Serves the models, and yields the address and the process of the front door."""
    size = int(gb * 10**9)
    limits = {"table_max_bytes": 2 * size, "table_files_max_bytes": 6 * size, "request_max_rows": 10**9, "request_timeout_s": 600}
    supervised = Supervised(folder, scratch_path=folder / "scratch", **limits)
    supervised.turns_checked = False
    write_tiny(supervised.dist / "small.pex", "small")
    for name, handler in MODELS.items():
        write_tiny(supervised.dist / f"{name}.pex", name, module=MODEL + handler)
    with supervised:
        state = supervised.state()
        (pid,) = state["front_door_pids"]
        yield state["address"], pid


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


def send_table(address: str, path: str, media_type: str, table: Path) -> None:
    """Sends a table, and reads the answer."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600, blocksize=1024**2)
    headers = {"content-type": media_type, "content-length": str(table.stat().st_size), "accept": MEDIA_TYPES["arrow"]}
    with closing(connection), table.open("rb") as body:
        connection.request("POST", path, body, headers)
        answer = connection.getresponse()
        if answer.status != 200:
            raise RuntimeError(answer.read().decode())
        while answer.read(1024**2):
            pass


def measure(address: str, pid: int, call: Callable[[], None]) -> Measured:
    """Returns what is measured during a call."""
    ended, memory, times = threading.Event(), [0.0], list[float]()

    def watch() -> None:
        while not ended.wait(0.05):
            memory.append(private_mb(pid))

    def ask() -> None:
        connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=600)
        with closing(connection):
            while not ended.wait(0.002):
                began_s = time.perf_counter()
                connection.request("POST", "/small", b'[{"x":1}]', {"content-type": "application/json"})
                connection.getresponse().read()
                times.append((time.perf_counter() - began_s) * 1000)

    threads = [threading.Thread(target=each) for each in (watch, ask)]
    began_s = time.perf_counter()
    for each in threads:
        each.start()
    try:
        call()
    finally:
        seconds = time.perf_counter() - began_s
        ended.set()
        for each in threads:
            each.join()
    p50_ms, p99_ms = np.quantile(times, [0.5, 0.99])
    return Measured(seconds, max(memory), p50_ms, p99_ms)


def private_mb(pid: int) -> float:
    """Returns the private memory of a process, in megabytes."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(found) for found in re.findall(r"^Private_(?:Clean|Dirty): +([0-9]+) kB$", text, re.MULTILINE)) / 1000


if __name__ == "__main__":
    raise SystemExit(main())
