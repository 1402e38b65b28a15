"""A database of jobs that cannot be used, below a real supervisor."""

import httpx
import pytest

from job_stores import opened, submit
from supervisor_harness import Supervised
from tinypex import times, write_tiny

pytestmark = pytest.mark.processes


def test_a_damaged_database_stops_jobs_alone_and_the_log_says_what_to_do(tmp_path):
    run = Supervised(tmp_path, request_timeout_s=8, start_nice=0)
    write_tiny(run.dist / "twice.pex", "twice", module=times(2, "/twice"))
    with opened(tmp_path / "state") as store:
        submit(store, id="mine")
    database = store.files.database
    database.write_bytes(database.read_bytes()[:5000])
    before = database.read_bytes()
    with run:
        address = run.state()["address"]
        for headers in ({}, {"prefer": "respond-async"}):
            answer = httpx.post(f"{address}/twice", json=[{"x": 1}], headers=headers, timeout=60)
            assert (answer.status_code, answer.json().get("code")) == ((503, "unavailable") if headers else (200, None))
        asked = httpx.get(f"{address}/jobs/mine", timeout=60)
        assert (asked.status_code, asked.json()["code"]) == (503, "unavailable")
        run.until(lambda: f"the database of jobs {database} is damaged" in run.err.read_text())
        assert f"or move the folder {database.parent} away to begin without jobs" in run.err.read_text()
        assert "Traceback" not in run.err.read_text()
    assert database.read_bytes() == before
    assert store.files.body(1).exists()
