"""Stores of jobs on a real disk, and jobs for them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runtime.jobs.files import IncomingBody
from runtime.jobs.job import Job, JobEvent, JobState, Submission
from runtime.jobs.store.age_clock import Reading
from runtime.jobs.store.interface import JobLimits, JobResult
from runtime.jobs.store.sqlite_store import SqliteJobStore

BODY = b"the body"
RESULT = b"the result"
TEXT = JobResult("text/plain")


class Clocks:
    """Clocks of a machine that a test moves."""

    def __init__(self):
        self.boot_id = "first"
        self.boot_s = 100.0
        self.wall_s = 1_800_000_000.0

    def __call__(self):
        return Reading(self.boot_id, self.boot_s, self.wall_s)

    def pass_s(self, seconds):
        self.boot_s += seconds
        self.wall_s += seconds

    def reboot(self, off_s):
        self.boot_id += "+"
        self.boot_s = 1.0
        self.wall_s += off_s


@contextlib.contextmanager
def opened(state_path: Path, clocks=None, **limits) -> Iterator[SqliteJobStore]:
    """Opens the store until the block ends."""
    limits = JobLimits(**{"disk_min_free_bytes": 0, **limits})
    store = SqliteJobStore(state_path, limits, clocks) if clocks else SqliteJobStore(state_path, limits)
    with contextlib.closing(store):
        store.recover()
        yield store


def receive(store: SqliteJobStore, body: bytes = BODY, **fields) -> tuple[IncomingBody, Submission]:
    """Receives a body as a front door does. The caller closes it."""
    incoming = store.files.new_body()
    incoming.file.write(body)
    incoming.sync()
    values = {"model": "iris", "target": "/iris", "digest": "same", "body_bytes": len(body), "body_file": incoming.name, **fields}
    return incoming, Submission(**values)


def submit(store: SqliteJobStore, body: bytes = BODY, **fields) -> Job:
    """Submits a job as a front door does."""
    incoming, submission = receive(store, body, **fields)
    with incoming:
        return store.add(submission).job


def start(store, **fields):
    """Returns a job that runs."""
    return store.step(submit(store, **fields).number, JobEvent.START, release_id="iris-1")


def finish(store, job, content=RESULT, result=TEXT):
    """Ends a job that runs with a result."""
    store.files.result_part(job.number).write_bytes(content)
    store.files.seal_result(job.number)
    return store.step(job.number, JobEvent.FINISH, result=result)


def job_in(store, state, **fields):
    """Returns a new job in this state."""
    match state:
        case JobState.QUEUED:
            return submit(store, **fields)
        case JobState.RUNNING:
            return start(store, **fields)
        case JobState.DONE:
            return finish(store, start(store, **fields))
        case JobState.FAILED:
            return store.step(start(store, **fields).number, JobEvent.FAIL, error={"code": "handler_failed"})
        case JobState.CANCELLED:
            return store.step(submit(store, **fields).number, JobEvent.CANCEL)
        case JobState.EXPIRED:
            return store.step(submit(store, **fields).number, JobEvent.EXPIRE)


def files_of(store) -> set[str]:
    """Returns all files of jobs, without the database."""
    found = (path.relative_to(store.files.folder) for path in store.files.folder.rglob("*") if path.is_file())
    return {str(path) for path in found if len(path.parts) > 1}
