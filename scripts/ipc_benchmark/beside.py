"""What a machine has to do beside: a job that fills a core, and a client that sends large tables one after the other."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench_jobs import BURNS
from bench_tables import MEDIA_TYPES, send_table, write_arrow
from job_driver import Jobs
from supervisor_harness import Supervised
from tinypex import write_tiny

SUM = """
    import polars as pl
    import base.service as svc

    @svc.endpoint("/sum", batched=False)
    def predict(records: pl.LazyFrame) -> pl.DataFrame:
        return records.sum().collect()
"""


@contextmanager
def other_work(gb: float) -> Iterator[None]:
    """Does it until the block ends."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = write_arrow(folder / "table", gb)
        size = 2 * table.stat().st_size
        limits = {"table_max_bytes": size, "table_files_max_bytes": 2 * size, "request_max_rows": 10**9, "job_workers": 1}
        run = Supervised(folder, scratch_path=folder / "scratch", **limits)
        run.turns_checked = False
        write_tiny(run.dist / "sum.pex", "sum", module=SUM)
        write_tiny(run.dist / "burns.pex", "burns", module=BURNS)
        with run:
            jobs = Jobs(folder / "state", run.run_path)
            jobs.until(jobs.submit("burns", "/burns", [{"x": 36_000.0}]).id, "running")
            with subprocess.Popen([sys.executable, "-m", "ipc_benchmark.beside", run.state()["address"], str(table)]) as sender:
                try:
                    yield
                finally:
                    sender.kill()


def main() -> None:
    """Sends a table again and again, until the process is killed."""
    while True:
        send_table(sys.argv[1], "/sum", MEDIA_TYPES["arrow"], Path(sys.argv[2]))


if __name__ == "__main__":
    main()
