"""Groups of rows on several workers: they are shared, and a worker that ends takes one group with it at most."""

from __future__ import annotations

from pathlib import Path

import httpx
import pyarrow as pa
import pyarrow.ipc

from job_driver import Jobs
from supervisor_harness import Supervised
from tinypex import write_tiny

SHARED = """
    import os, pathlib, signal, time
    import polars as pl
    import base.service as svc
    from base.errors import Reject
    from base.schema import Schema

    class Row(Schema):
        series: pl.Int64
        x: pl.Int64

    @svc.endpoint(path="/shared", group_by=["series"])
    def predict(frame: Row.DataFrame) -> pl.DataFrame:
        met, series = pathlib.Path("FOLDER"), frame["series"][0]
        if series == 700:
            os.kill(os.getpid(), signal.SIGKILL)
        if series == 300 and not (met / "died").exists():
            (met / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if series == 500:
            raise Reject(422, "no 500")
        (met / str(os.getpid())).touch()
        while len(list(met.glob("[0-9]*"))) < 2:  # until another worker computes some groups, too
            time.sleep(0.01)
        return frame.select(pl.col("x").sum(), pid=pl.lit(os.getpid()))
"""


def test_groups_are_shared_by_the_workers_and_a_crash_fails_its_group_only(tmp_path: Path) -> None:
    """One group kills each worker that computes it, another one only the first; of 1000, a few in each part. A job is, too."""
    met = tmp_path / "met"
    met.mkdir()
    supervised = Supervised(tmp_path, workers_per_release=2, restart_delay_min_s=0.05, restart_delay_max_s=0.1)
    write_tiny(supervised.dist / "shared.pex", "shared", module=SHARED.replace("FOLDER", str(met)))
    rows = [{"series": (i * 7) % 1000, "x": i} for i in range(3000)]
    with supervised:
        url = supervised.state()["address"] + "/shared"
        reply = httpx.post(url, json=rows, timeout=120)
        jobs = Jobs(tmp_path / "state", supervised.run_path)
        job = jobs.until(jobs.submit("shared", "/shared", [{"series": series, "x": 1} for series in (1, 2, 500, 2)]).id)
        result = pa.ipc.open_stream(jobs.result(job.id)).read_all()
    assert (job.state, job.fraction, job.message) == ("done", 1.0, "3 of 3 groups")
    assert result["series"].to_pylist() == [1, 2, 500]
    assert result["x"].to_pylist() == [1, 2, None]
    assert result["group_error"].to_pylist() == [None, None, "rejected: no 500"]
    assert reply.status_code == 207, reply.text
    document = reply.json()
    assert [(each["group"]["series"], each["status"], each["code"]) for each in document["failed"]] == [
        (series, status, code)
        for series in [(i * 7) % 1000 for i in range(1000)]
        for failing, status, code in [(700, 500, "handler_failed"), (500, 422, "rejected")]
        if series == failing
    ]
    assert [(each["series"], each["x"]) for each in document["predictions"]] == [
        ((i * 7) % 1000, 3 * i + 3000) for i in range(1000) if (i * 7) % 1000 not in {500, 700}
    ]
    assert len({each["pid"] for each in document["predictions"]}) >= 2
