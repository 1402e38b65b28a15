"""A database of jobs that cannot be used, below a real supervisor."""

import time

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
        for method, path in (("GET", "/jobs"), ("GET", "/jobs/mine"), ("GET", "/jobs/mine/events"), ("DELETE", "/jobs/mine")):
            asked = httpx.request(method, address + path, timeout=60)
            assert (asked.status_code, asked.json()["code"], asked.headers["retry-after"]) == (503, "unavailable", "60")
            assert asked.json()["detail"] == "the database of jobs is damaged; the log of Pexdock says what to do"
        assert httpx.get(f"{address}/readyz", timeout=60).status_code == 200
        run.until(lambda: f"the database of jobs {database} is damaged" in run.err.read_text())
        assert f"or move the folder {database.parent} away to begin without jobs" in run.err.read_text()
        assert "Traceback" not in run.err.read_text()
        assert database.read_bytes() == before
        assert store.files.body(1).exists()
        store.files.folder.rename(tmp_path / "away")  # as the log says; then no restart is needed
        made = httpx.put(f"{address}/jobs/new?path=/twice", json=[{"x": 1}], timeout=60)
        while made.status_code == 503:
            time.sleep(0.2)
            made = httpx.put(f"{address}/jobs/new?path=/twice", json=[{"x": 1}], timeout=60)
        assert made.status_code in {200, 202}, made.text
        assert run.err.read_text().count(f"{database} is damaged") == 1
        assert "job runner exited" not in run.err.read_text()
