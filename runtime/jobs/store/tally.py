"""Counts jobs and their bytes, so that limits cost the same to check however many jobs there are. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from base.errors import Full
from runtime.jobs.job import Job, JobState, Submission
from runtime.jobs.store.interface import JobLimits, JobUsage


class JobTally:
    """Numbers and bytes of all stored jobs.

    Args:
        states: Number of ended jobs in each state.
        result_bytes: Bytes of all results.
        active: All jobs that have not ended.

    Attributes:
        states: Number of jobs in each state.
        result_bytes: Bytes of all results.
    """

    def __init__(self, states: Mapping[JobState, int], result_bytes: int, active: Iterable[Job]) -> None:
        self.states = Counter(states)
        self.result_bytes = result_bytes
        self._body_bytes = 0
        self._waiting: Counter[str] = Counter()  # client → number of jobs; only those that have any
        for job in active:
            self.add(job)

    def add(self, job: Job) -> None:
        """Counts a job."""
        self.states[job.state] += 1
        self.result_bytes += job.result_bytes
        self._count(job, 1)

    def remove(self, job: Job) -> None:
        """Counts a job no longer, which must be as it was when it was added."""
        self.states[job.state] -= 1
        self.result_bytes -= job.result_bytes
        self._count(job, -1)

    def usage(self) -> JobUsage:
        """Returns the numbers for operators."""
        return JobUsage(self.states[JobState.QUEUED], self.states[JobState.RUNNING], self._body_bytes, self.result_bytes)

    def check_limits(self, submission: Submission, limits: JobLimits) -> None:
        """Returns if the limits allow one more job.

        Raises:
            Full: They do not.
        """
        queued, of_client = self.states[JobState.QUEUED], self._waiting[submission.client]
        if queued >= limits.queue_max:
            raise Full(f"queue full: {queued} jobs wait, limit {limits.queue_max}; try again later", retry_after_s=10)
        if of_client >= limits.queue_client_max:
            raise Full(
                f"queue full: {of_client} jobs of this client wait, limit {limits.queue_client_max}; try again later", retry_after_s=10
            )
        if self._body_bytes + submission.body_bytes > limits.bodies_max_bytes:
            raise Full(
                f"no room for a body of {submission.body_bytes} bytes: {self._body_bytes} bytes of bodies wait or run, "
                f"limit {limits.bodies_max_bytes}; try again later",
                retry_after_s=10,
            )

    def _count(self, job: Job, sign: int) -> None:
        if job.state.is_final:
            return
        self._body_bytes += sign * job.submission.body_bytes
        if job.state is JobState.QUEUED:
            client = job.submission.client
            self._waiting[client] += sign
            if not self._waiting[client]:
                del self._waiting[client]
