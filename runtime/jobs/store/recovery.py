"""Mends what the death of the last process, or of the machine, has left of jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runtime.jobs.files import JobFiles
from runtime.jobs.job import BODY_LOST, Job, JobEvent, JobState, after_interruption, make_error
from runtime.jobs.store.records import JobRecords

log = logging.getLogger(__name__)


def recover_jobs(records: JobRecords, files: JobFiles, attempts_max: int, step: Callable[..., Job]) -> None:
    """Ends each attempt that was running, and each job whose files somebody has removed.

    Args:
        records: The records.
        files: The files.
        attempts_max: Number of times that a job may begin.
        step: Applies an event to a job, as `JobStore.step` does.
    """
    running = records.select("state = ? ORDER BY number", JobState.RUNNING)
    for job in running:
        event, error = after_interruption(job, attempts_max)
        step(job.number, event, error=error)
    if running:
        log.info("jobs that ran when the last job runner ended: %d", len(running))
    for job in records.select("state = ? ORDER BY number", JobState.QUEUED):
        if not files.body(job.number).exists():
            step(job.number, JobEvent.FAIL, error=make_error(job, "body_lost", BODY_LOST))
    for job in records.select("state = ?", JobState.DONE):
        if not files.result(job.number).exists():
            step(job.number, JobEvent.EXPIRE)


def remove_orphans(records: JobRecords, files: JobFiles) -> None:
    """Removes files that no job needs, also those of attempts that have ended."""
    files.remove_abandoned()
    active, done = records.numbers([JobState.QUEUED, JobState.RUNNING]), records.numbers([JobState.DONE])
    for number in files.numbers():
        if number in done:
            files.remove_inputs(number)
        elif number in active:
            files.remove_result_part(number)
        else:
            files.remove_all(number)
