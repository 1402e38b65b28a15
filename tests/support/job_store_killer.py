"""Runs jobs against a store in children that are killed, and leaves what they acknowledged. A program, so that it may fork.

`each FOLDER` runs one scenario again and again, each time in a new folder, and kills it one call of the operating system or SQLite later.
`submission FOLDER` submits a job to a process that is killed, one call later each time, and submits it again to the next one.
`random FOLDER JOBS SEED` runs so many jobs in one folder, and kills the process again and again. The exit code says whether the last child
ended well.
"""

import contextlib
import json
import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path

from job_stores import files_of, opened, receive
from runtime.jobs.job import JobEvent, JobState
from runtime.jobs.store.interface import JobResult

CHANGES = {"open", "write", "fsync", "mkdir", "rename", "replace", "unlink", "rmdir", "execute", "executemany", "executescript"}
"""Functions of the operating system and of SQLite that may change files or the database."""

ATTEMPTS = 3


class Acknowledged:
    """A file of lines, each of which a client was told. A line that was written survives the process."""

    def __init__(self, path):
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, what, job):
        line = json.dumps({"what": what, "id": job.id, "state": job.state, "ended_s": job.ended_s, "number": job.number})
        os.write(self._descriptor, line.encode() + b"\n")


def result_of(job_id):
    return f"result of {job_id}".encode() * 100


def body_of(job_id):
    return f"body of {job_id}".encode() * 100


def submit_job(store, acknowledged, job_id):
    incoming, submission = receive(store, body_of(job_id), id=job_id, digest=job_id)
    with incoming:
        added = store.add(submission)
        if added.is_new:
            acknowledged.add("added", added.job)
    return added.job


def run_job(store, acknowledged, job):
    job = store.step(job.number, JobEvent.START, release_id="iris-1")
    assert store.files.body(job.number).read_bytes() == body_of(job.id)
    store.files.checkpoint(job.number).mkdir(exist_ok=True)
    store.files.checkpoint(job.number).joinpath("half").write_bytes(b"half")
    store.files.result_part(job.number).write_bytes(result_of(job.id))
    store.files.seal_result(job.number)
    acknowledged.add("ended", store.step(job.number, JobEvent.FINISH, result=JobResult("text/plain")))


def scenario(folder):
    """Takes a job through each step that changes files, and cancels and forgets others."""
    acknowledged = Acknowledged(folder / "acknowledged")
    with opened(folder, attempts=ATTEMPTS) as store:
        job = submit_job(store, acknowledged, "finished")
        submit_job(store, acknowledged, "cancelled")
        acknowledged.add("ended", store.request_cancel("", "cancelled"))
        submit_job(store, acknowledged, "interrupted")
        store.step(3, JobEvent.START, release_id="iris-1")
        store.step(3, JobEvent.INTERRUPT)
        run_job(store, acknowledged, job)
    with opened(folder, attempts=ATTEMPTS, results_max_bytes=0) as store:
        (expired,) = store.tidy()
        acknowledged.add("expired", expired)


def kill_at(call):
    """Kills this process after the n-th call that may change something; `call` counts from 0."""
    calls = count()

    def profile(_frame, event, function):
        if event == "c_return" and function.__name__ in CHANGES and next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.setprofile(profile)


def in_child(work):
    """Runs `work` in a child. Returns the number of its process."""
    child = os.fork()
    if child:
        return child
    code = 1
    with contextlib.suppress(KeyboardInterrupt):
        work()
        code = 0
    os._exit(code)


def kill_after_each_call(folder):
    for call in count():
        own = folder / f"{call:04}"
        own.mkdir()

        def work(call=call, own=own):
            kill_at(call)
            scenario(own)

        status = os.waitstatus_to_exitcode(os.waitpid(in_child(work), 0)[1])
        if status != -signal.SIGKILL:
            sys.exit(status)


def kill_while_it_takes_a_submission(folder):
    for call in count():
        own = folder / f"{call:04}"
        with opened(own) as store:
            incoming, submission = receive(store, body_of("once"))

        def work(call=call, own=own, submission=submission):
            with opened(own) as store:
                kill_at(call)
                store.add(submission)

        with incoming:  # the front door lives, and does not know what became of its submission
            status = os.waitstatus_to_exitcode(os.waitpid(in_child(work), 0)[1])
            with opened(own) as store:
                job = store.add(submission).job
                assert store.list_jobs() == [job], call
        with opened(own) as store:
            assert (job.state, files_of(store)) == (JobState.QUEUED, {f"{job.number}/body"}), call
            assert store.files.body(job.number).read_bytes() == body_of("once"), call
        if status != -signal.SIGKILL:
            sys.exit(status)


def run_remaining(folder, jobs):
    """Runs until all jobs have ended, as a runner does that was just started."""
    acknowledged = Acknowledged(folder / "acknowledged")
    with opened(folder, attempts=ATTEMPTS) as store:
        for job in store.list_jobs(limit=1000):
            if job.state.is_final:
                acknowledged.add("seen", job)
        for number in range(jobs):
            job = submit_job(store, acknowledged, f"job-{number}")
            if job.state is JobState.QUEUED and number % 3:  # the others wait for the end
                run_job(store, acknowledged, job)
        for job in store.waiting():
            run_job(store, acknowledged, job)


def kill_at_random_times(folder, jobs, seed):
    chance = random.Random(seed)
    log = folder / "acknowledged"
    log.touch()
    while True:
        limit = acknowledged_count(log) + chance.randrange(1, 30)
        child = in_child(lambda: run_remaining(folder, jobs))
        while acknowledged_count(log) < limit:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                sys.exit(os.waitstatus_to_exitcode(status))
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def acknowledged_count(log):
    return sum(b'"seen"' not in line for line in log.read_bytes().splitlines())


if __name__ == "__main__":
    kind, folder, *rest = sys.argv[1:]
    if kind == "submission":
        kill_while_it_takes_a_submission(Path(folder))
    if kind == "each":
        kill_after_each_call(Path(folder))
    kill_at_random_times(Path(folder), *map(int, rest))
