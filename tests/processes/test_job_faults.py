"""kill -9 of each process at each state of a job: none is lost, and each ends exactly once (docs/operations/jobs.md has the table)."""

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from job_driver import Labour

pytestmark = pytest.mark.processes


@pytest.fixture(scope="module")
def labour(tmp_path_factory):
    with Labour(tmp_path_factory.mktemp("faults"), job_workers=2, restart_delay_min_s=0.05) as labour:
        yield labour


def kill(pid):
    os.kill(int(pid), signal.SIGKILL)


def kill_worker(labour, running):
    kill(labour.begun(running)[0])


def kill_runner(labour, running):
    labour.jobs.list()  # it is there to answer
    kill(labour.runner_pid())


def kill_supervisor(labour, running):
    labour.run.process.kill()
    labour.run.process.wait()
    labour.run.start()
    labour.run.until(labour.run.has_started)


def kill_front_door(labour, running):
    kill(labour.run.state()["front_door_pids"][0])


@pytest.mark.parametrize(
    ("fault", "attempts"), [(kill_worker, 1), (kill_runner, 2), (kill_front_door, 1)], ids=["worker", "runner", "front door"]
)
def test_no_process_takes_a_job_with_it(labour, fault, attempts):
    check_fault(labour, fault, attempts)


def test_no_supervisor_takes_a_job_with_it(tmp_path):
    with Labour(tmp_path, job_workers=2, restart_delay_min_s=0.05) as labour:
        check_fault(labour, kill_supervisor, 2)


def check_fault(labour, fault, attempts):
    """Checks what becomes of jobs one of which is done, one runs, one was cancelled while it ran, and one waits in the queue."""
    jobs = labour.jobs
    done, _ = labour.submit("x", "/labour/rows")
    jobs.until(done.id)
    before = jobs.result(done.id)
    running, mark = labour.submit("waits")
    cancelled, cancelled_mark = labour.submit("ignores_cancellation")
    labour.until_begun(mark), labour.until_begun(cancelled_mark)
    queued, queued_mark = labour.submit("waits")
    jobs.cancel(cancelled.id)

    fault(labour, mark)

    for each in (mark, queued_mark, cancelled_mark):
        Path(f"{each}.go").touch()
    assert jobs.until(cancelled.id).state == "cancelled"
    found = jobs.until(running.id)
    assert (found.state, found.attempts) == ("done", attempts)
    assert labour.did(running) == [{"did": "waited", "attempt": attempts, "version": "0.1.0"}]
    assert len(labour.begun(mark)) == (1 if fault is kill_front_door else 2)
    assert len(labour.begun(cancelled_mark)) == 1
    assert jobs.until(queued.id).state == "done"
    assert len(labour.begun(queued_mark)) == 1
    assert jobs.get(done.id).state == "done"
    assert jobs.result(done.id) == before


def test_a_job_that_waits_for_its_worker_to_start_is_queued_and_waits_for_another_one(labour):
    """Nothing of it is interrupted, whichever process is killed."""
    hold = labour.folder / "hold"
    hold.touch()
    try:
        kill_runner(labour, None)  # with all workers
        job, mark = labour.submit("waits")
        held = labour.run.until(lambda: sorted(labour.folder.glob("held-*")))
        kill(held[-1].name.removeprefix("held-"))
        labour.run.until(lambda: len(list(labour.folder.glob("held-*"))) > len(held))
        kill_runner(labour, mark)
        found = labour.jobs.get(job.id)
        assert (found.state, found.place, found.attempts, found.started_at) == ("queued", 1, 0, None)
    finally:
        hold.unlink()
    Path(f"{mark}.go").touch()
    assert (labour.jobs.until(job.id).state, labour.jobs.get(job.id).attempts) == ("done", 1)
    assert len(labour.begun(mark)) == 1


def test_no_job_waits_for_an_attempt_whose_runner_was_killed(labour):
    """A handler does not end with the runner, and nobody wants what it computes."""
    jobs = [labour.submit("ignores_cancellation") for _ in range(2)]
    first = [labour.until_begun(mark) and labour.begun(mark)[0] for _, mark in jobs]
    kill_runner(labour, None)
    labour.run.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in first))
    kill(labour.run.until(labour.job_worker_pids)[0])
    for _, mark in jobs:
        labour.until_begun(mark, 2)
    assert len({labour.begun(mark)[-1] for _, mark in jobs}) == 2
    for job, mark in jobs:
        Path(f"{mark}.go").touch()
        assert labour.jobs.until(job.id).attempts == 2


def test_a_job_is_queued_until_a_worker_has_nothing_else(labour):
    """Beside a generator, whose worker waits for its reader between two parts, and while the only other worker starts."""
    hold = labour.folder / "hold"
    kill_runner(labour, None)  # with all workers
    first, first_mark = labour.submit("waits", "/labour/parts")
    labour.until_begun(first_mark)
    before = set(labour.folder.glob("held-*"))
    hold.touch()
    try:
        cancelled, _ = labour.submit("waits")
        second, second_mark = labour.submit("waits")
        labour.run.until(lambda: set(labour.folder.glob("held-*")) - before)
        assert labour.jobs.get(second.id).state == "queued"
        assert labour.jobs.cancel(cancelled.id).state == "cancelled"
    finally:
        hold.unlink()
    labour.until_begun(second_mark)
    assert labour.jobs.get(first.id).state == "running"
    assert labour.begun(second_mark) != labour.begun(first_mark)
    for job, mark in ((first, first_mark), (second, second_mark)):
        Path(f"{mark}.go").touch()
        assert labour.jobs.until(job.id).state == "done"


def test_a_job_that_may_not_be_computed_twice_fails_if_it_was_interrupted(labour):
    job, mark = labour.submit("waits", "/labour/once")
    labour.run.until(lambda: Path(f"{mark}.begun").exists())
    kill_runner(labour, mark)
    failed = labour.jobs.until(job.id)
    assert (failed.state, failed.error["code"]) == ("failed", "interrupted")
    Path(f"{mark}.go").touch()


def test_two_hundred_jobs_survive_random_kills(labour):
    chance = random.Random(4)
    submitted, ended = {}, threading.Event()

    def kill_at_random():
        for victim in ("runner", "worker", "worker", "runner", "worker", "runner", "worker"):
            if ended.wait(chance.uniform(0.2, 2)):
                return
            with contextlib.suppress(IndexError, StopIteration, ProcessLookupError):  # it has just been killed
                kill(labour.runner_pid() if victim == "runner" else chance.choice(labour.job_worker_pids()))

    killing = threading.Thread(target=kill_at_random)
    killing.start()
    try:
        for _ in range(200):
            job, mark = labour.submit("naps")
            submitted[job.id] = mark
    finally:
        ended.set()
        killing.join()
    jobs = labour.jobs
    end = time.monotonic() + 120
    while waiting := [job for job in jobs.list("queued", "running") if job.id in submitted]:
        assert time.monotonic() < end, waiting
        time.sleep(0.2)
    found = {job.id: job for job in jobs.list() if job.id in submitted}
    assert found.keys() == submitted.keys()
    for job_id, job in found.items():
        if job.state == "done":
            assert labour.did(job)[0]["did"] == str(submitted[job_id])
        else:
            assert job.state == "failed"
            assert "exited" in job.reason or "interrupted" in job.reason
    assert sum(job.state == "done" for job in found.values()) > 150
    kill_runner(labour, None)
    assert {job.id: job for job in jobs.list() if job.id in submitted} == found
