"""Bodies of jobs and whole results of hundreds of megabytes, and what front door and job runner need for them."""

import contextlib
import re
import threading
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
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

    @svc.endpoint("/grown", batched=False)
    def grown(records_df: pl.DataFrame) -> pl.DataFrame:
        numbers = pl.int_range(records_df["rows"][0], eager=True)
        return pl.DataFrame({"a": numbers.cast(pl.Float64), "b": numbers // 2})
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
        limits |= {"response_max_bytes": 1024 * MB, "shared_memory_max_bytes": 128 * MB}
        self.run = Operated(folder, job_workers=1, job_worker_nice=0, front_doors=1, **limits | settings)
        self.run.turns_checked = False
        write_tiny(self.run.dist / "tables.pex", "tables", module=MODEL, endpoints=("sums", "grown"))

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


def sums_of(stream):
    """Returns the sums of the rows of an Arrow stream, a batch at a time."""
    found = {"rows": 0, "a": 0, "b": 0}
    for batch in pa.ipc.open_stream(stream):
        more = {"rows": batch.num_rows} | {name: pc.sum(batch[name]).as_py() for name in ("a", "b")}
        found = {name: found[name] + more[name] for name in found}
    return found


def test_a_whole_result_is_larger_than_all_shared_memory(tables, tmp_path):
    """Its client reads slowly, and others are answered meanwhile. As the result of a job, it is fetched in ranges."""
    pids, path = tables.pids(), tmp_path / "result"
    with memory_of(pids) as memory:
        with path.open("wb") as file, tables.client.stream("POST", "/grown", json=[{"rows": ROWS}], headers={"accept": ARROW}) as answer:
            assert (answer.status_code, answer.headers["content-type"]) == (200, ARROW), answer.read()
            pieces = answer.iter_bytes(MB)
            file.write(next(pieces))
            small = httpx.post(f"{tables.client.base_url}/sums", json=[{"a": 1, "b": 2}], timeout=120)
            assert small.json()["predictions"] == [{"rows": 1, "a": 1.0, "b": 2}]
            file.writelines(pieces)
        size = path.stat().st_size
        assert size == int(answer.headers["content-length"]) > 200 * MB
        with pa.memory_map(str(path)) as stored:
            assert sums_of(stored) == WANTED
        job = tables.submit("/grown", b'[{"rows":%d}]' % ROWS, "application/json")
        assert (job["state"], job["result"]["bytes"]) == ("done", size), job
        path.unlink()
        with path.open("wb") as file:
            for start, end in ((0, 99), (100, size // 2), (size // 2 + 1, size - 1)):
                wanted = {"accept": ARROW, "range": f"bytes={start}-{end}"}
                with tables.client.stream("GET", f"/jobs/{job['id']}/result", headers=wanted) as answer:
                    assert (answer.status_code, answer.headers["content-range"]) == (206, f"bytes {start}-{end}/{size}")
                    file.writelines(answer.iter_bytes(MB))
        with pa.memory_map(str(path)) as stored:
            assert sums_of(stored) == WANTED
        assert tables.client.get(f"/jobs/{job['id']}/result", headers={"accept": PARQUET}).status_code == 200
    assert max(memory.values()) < 200 * MB, memory
