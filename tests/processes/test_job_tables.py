"""Jobs whose bodies are tables of hundreds of megabytes, and what front door and job runner need for them."""

import contextlib
import re
import threading
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from operated_supervisor import Operated
from process_children import children
from tinypex import write_tiny

pytestmark = pytest.mark.processes

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
MB = 1024**2

MODEL = """
    from collections.abc import Iterator
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        a: pl.Float64
        b: pl.Int64

    @svc.endpoint("/sums", batched=False)
    def sums(frames: Iterator[Row.DataFrame]) -> pl.DataFrame:
        return pl.concat([each.select(rows=pl.len(), a=pl.sum("a"), b=pl.sum("b")) for each in frames]).sum()
"""

BATCH_ROWS, BATCHES = 1_000_000, 14
"""A table of 224 MB: `a` has the numbers from 0 on, `b` their halves, rounded down."""

SCHEMA = pa.schema({"a": pa.float64(), "b": pa.int64()})


def batches():
    for first in range(0, BATCHES * BATCH_ROWS, BATCH_ROWS):
        numbers = np.arange(first, first + BATCH_ROWS)
        yield pa.record_batch([numbers.astype(float), numbers // 2], schema=SCHEMA)


def write_arrow(path):
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, SCHEMA) as stream:
        for batch in batches():
            stream.write_batch(batch)
    return path


def write_parquet(path):
    with pq.ParquetWriter(path, SCHEMA, use_dictionary=False, compression="none") as file:
        for batch in batches():
            file.write_batch(batch)
    return path


ROWS = BATCHES * BATCH_ROWS
WANTED = {"rows": ROWS, "a": ROWS * (ROWS - 1) / 2, "b": (ROWS // 2) * (ROWS // 2 - 1)}
"""The sum of the halves is 0 + 0 + 1 + 1 + 2 + 2 ..."""


def private_bytes(pid):
    """Returns the private memory of a process; 0 if it has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return sum(int(found) * 1024 for found in re.findall(r"^Private_(?:Clean|Dirty): +([0-9]+) kB$", text, re.MULTILINE))
    return 0


@contextlib.contextmanager
def memory_of(pids):
    """Yields the largest private memory of each process, which is complete after the block."""
    highest, ended = dict.fromkeys(pids, 0), threading.Event()

    def watch():
        while not ended.wait(0.05):
            for pid in pids:
                highest[pid] = max(highest[pid], private_bytes(pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield highest
    finally:
        ended.set()
        watcher.join()


class Tables:
    """A supervisor with a model for tables, and a client."""

    def __init__(self, folder, **settings):
        limits = {"table_max_bytes": 1024 * MB, "request_max_rows": 10**8, "job_body_max_bytes": MB}
        self.run = Operated(folder, job_workers=1, job_worker_nice=0, front_doors=1, **limits | settings)
        self.run.turns_checked = False
        write_tiny(self.run.dist / "tables.pex", "tables", module=MODEL, endpoints=("sums",))

    def __enter__(self):
        self.run.__enter__()
        self.run.until_state("tables.pex", "ready")
        self.client = httpx.Client(base_url=self.run.state()["address"], timeout=120)
        self.submit("/sums", b'[{"a":1,"b":2}]', "application/json")
        return self

    def __exit__(self, *error):
        self.client.close()
        self.run.__exit__(*error)

    def pids(self):
        """Returns the processes of the front door and of the job runner."""
        (front_door,) = self.run.state()["front_door_pids"]
        runners = [pid for pid in children(self.run.process.pid) if b"runtime.job_runner" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        return [front_door, *runners]

    def submit(self, path, body, media_type):
        """Submits a job, and returns its document once it has ended."""
        answer = self.client.post(path, content=body, headers={"prefer": "respond-async", "content-type": media_type})
        assert answer.status_code == 202, answer.text
        job = answer.json()

        def ended():
            found = self.client.get(f"/jobs/{job['id']}").json()
            return found if found["state"] not in ("queued", "running") else None

        return self.run.until(ended)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    with Tables(tmp_path_factory.mktemp("tables")) as tables:
        yield tables


def test_tables_of_jobs_stay_in_their_files(tables, tmp_path):
    """As Arrow, which a worker reads as it is, and as Parquet. The limit is that of tables, not of other bodies of jobs."""
    pids = tables.pids()
    assert len(pids) == 2
    for media_type, path in ((ARROW, write_arrow(tmp_path / "arrow")), (PARQUET, write_parquet(tmp_path / "parquet"))):
        assert path.stat().st_size > 200 * MB
        with memory_of(pids) as memory, path.open("rb") as body:
            job = tables.submit("/sums", iter(lambda file=body: file.read(MB), b""), media_type)
        assert job["state"] == "done", job
        assert tables.client.get(f"/jobs/{job['id']}/result").json()["predictions"] == [WANTED]
        assert set(memory) == set(tables.pids())
        assert max(memory.values()) < 200 * MB, (path.name, memory)
        path.unlink()
