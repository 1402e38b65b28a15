"""Jobs, from a submission over the runner's socket to the stored result, with real processes."""

import os
import re
import signal
from pathlib import Path

import pytest

from job_driver import Labour

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def labour(tmp_path_factory):
    settings = {"job_workers": 2, "job_cancel_grace_s": 1.5, "restart_delay_min_s": 0.05, "probation_crashes_max": 2}
    with Labour(tmp_path_factory.mktemp("jobs"), **settings) as labour:
        yield labour


def test_rows_are_stored_as_an_arrow_stream_and_other_results_as_they_are(labour):
    jobs = labour.jobs
    record, _ = labour.submit("raises", "/labour/rows")
    parts, _ = labour.submit("x", "/labour/parts")
    raw = jobs.submit("labour", "/labour/raw", b"abc", content_type="text/plain")
    assert jobs.until(record.id).state == "done"
    assert labour.did(record) == [{"prediction": "RAISES"}]
    assert jobs.until(parts.id).result.media_type == "application/x-ndjson"
    assert jobs.result(parts.id) == b'{"do":"x"}\n'
    assert jobs.until(raw.id).result.media_type == "text/plain"
    assert jobs.result(raw.id) == b"cba"


def test_a_job_reports_progress_and_goes_on_from_its_checkpoint(labour):
    jobs, run = labour.jobs, labour.run
    job, mark = labour.submit("takes_steps")
    half = run.until(lambda: (found := jobs.get(job.id)) and (found.state.is_final or found.fraction == 0.5) and found)
    assert (half.state, half.message) == ("running", "step 2")
    Path(f"{mark}.go").touch()
    done = jobs.until(job.id)
    assert (done.state, done.fraction, done.message) == ("done", 1.0, "step 4")
    assert labour.did(job) == [{"did": "from 0", "attempt": 1, "version": "0.1.0"}]


def test_what_the_handler_raises_fails_the_job_with_its_reason(labour):
    jobs = labour.jobs
    warm, _ = labour.submit("x", "/labour/rows")
    jobs.until(warm.id)
    job, _ = labour.submit("raises")
    failed = jobs.until(job.id)
    assert (failed.state, failed.attempts) == ("failed", 1)
    assert (failed.error["status"], failed.error["id"]) == (500, job.id)
    assert (failed.ended_at - failed.started_at).total_seconds() < 1
    rejected, _ = labour.submit("rejects")
    assert jobs.until(rejected.id).error["detail"] == "not this row"
    misfit = jobs.submit("labour", "/labour/rows", [{"do": 1}])
    assert jobs.until(misfit.id).error["status"] == 422
    gone = jobs.submit("labour", "/labour/nowhere", [])
    assert (jobs.until(gone.id).error["status"], jobs.get(gone.id).error["id"]) == (404, gone.id)


def test_jobs_are_cancelled_while_they_wait_run_or_do_not_listen(labour):
    jobs = labour.jobs
    running, mark = labour.submit("waits")
    deaf, deaf_mark = labour.submit("ignores_cancellation")
    labour.until_begun(mark), labour.until_begun(deaf_mark)
    waiting, waiting_mark = labour.submit("waits")
    assert jobs.get(waiting.id).place == 1
    assert jobs.cancel(waiting.id).state == "cancelled"
    assert jobs.cancel(running.id).cancel_requested
    assert jobs.until(running.id).state == "cancelled"
    assert Path(f"{mark}.cancelled").exists()
    assert jobs.cancel(deaf.id).state == "running"
    assert jobs.until(deaf.id).state == "cancelled"
    assert not Path(f"/proc/{labour.begun(deaf_mark)[0]}").exists()
    assert not labour.begun(waiting_mark)
    after, _ = labour.submit("x", "/labour/rows")
    assert jobs.until(after.id).state == "done"


def test_a_job_that_kills_its_worker_fails_after_two_of_them(labour):
    job, mark = labour.submit("kills_its_worker")
    failed = labour.jobs.until(job.id)
    assert failed.state == "failed"
    assert "2 workers exited" in failed.error["detail"]
    assert len(labour.begun(mark)) == 2
    for _ in range(2):
        assert labour.jobs.until(labour.submit("kills_its_worker")[0].id).state == "failed"
    delays = re.findall(r"\(jobs\): its worker was killed by SIGKILL.* restarting in (\S+) s", labour.run.err.read_text())
    assert len(delays) >= 5
    assert len(set(delays)) == 1  # they do not grow, since other jobs would wait


def test_groups_of_one_job_are_computed_by_all_workers_that_no_other_job_needs(labour):
    mark = labour.folder / "groups"
    rows = [{"do": each, "mark": str(mark)} for each in "abcdabcd"]
    job = labour.jobs.submit("labour", "/labour/groups", rows)
    labour.run.until(lambda: len(set(labour.begun(mark))) == 2)
    Path(f"{mark}.go").touch()
    assert labour.jobs.until(job.id).state == "done"
    assert sorted(row["do"] for row in labour.did(job)) == [*"aabbccdd"]


def test_the_workers_of_jobs_are_shown(labour):
    job, mark = labour.submit("waits")
    labour.until_begun(mark)
    pids = [int(pid) for pid in labour.begun(mark)]
    shown = labour.run.until(lambda: (found := labour.run.release(labour.old.name))["job_worker_pids"] and found)
    assert {*pids} <= {*shown["job_worker_pids"]}
    assert not {*pids} & {*shown["worker_pids"]}
    assert re.search(rf"^    job workers: .*\b{pids[0]}\b", labour.run.run("models").stdout, re.MULTILINE)
    assert re.search(rf"\b{pids[0]} +ready \(jobs\)", labour.run.run("describe", "labour").stdout)
    labour.jobs.cancel(job.id)
    assert labour.jobs.until(job.id).state == "cancelled"


def test_a_job_fails_if_no_worker_of_its_release_can_start(labour):
    """Its reason is the one of the worker. One runs when its worker exits, and one waits until the others have failed for that reason."""
    broken = labour.folder / "broken"
    running, mark = labour.submit("waits")
    labour.until_begun(mark)
    broken.touch()
    try:
        for pid in labour.job_worker_pids():
            os.kill(pid, signal.SIGKILL)
        for job, _ in [(running, mark), *(labour.submit("x", "/labour/rows") for _ in range(2))]:
            failed = labour.jobs.until(job.id)
            assert failed.state == "failed"
            assert "no model to be found" in failed.reason
    finally:
        broken.unlink()
    again, _ = labour.submit("x", "/labour/rows")
    assert labour.jobs.until(again.id).state == "done"
