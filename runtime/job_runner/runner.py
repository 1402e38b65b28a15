"""The job runner: accepts jobs, runs them on job workers, and answers what clients ask about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from runtime.jobs.job import Job, JobState, Submission


class JobRunner:
    """Owns all jobs of one supervisor. All methods are called on its event loop."""

    async def submit(self, submission: Submission) -> tuple[Job, bool]:
        """Stores a job, and returns it once that survives a power cut.

        Returns:
            The job, and whether it is new: its id may be that of a job with the same digest, which is then returned as it is.

        Raises:
            Conflict: The client has another job with this id.
            Full: The disk or the queue has no room. Nothing was stored, and the caller removes the body.
        """
        raise NotImplementedError

    async def get(self, client: str, job_id: str) -> Job:
        """Returns a job of a client as it is now.

        Raises:
            NotFound: The client has no such job.
        """
        raise NotImplementedError

    async def list_jobs(
        self, client: str | None, *, states: Collection[JobState] = (), model: str = "", before: int | None = None, count_max: int = 100
    ) -> Sequence[Job]:
        """Returns jobs, the newest first.

        Args:
            client: The client that they belong to; None for all jobs.
            states: States to return; empty for all.
            model: Model to return; empty for all.
            before: Only jobs with lower numbers, which continues a list.
            count_max: Limit of their number.
        """
        raise NotImplementedError

    async def cancel(self, client: str, job_id: str) -> Job:
        """Cancels a job, unless it has ended, and returns it. One that runs ends once its handler has returned or its worker is gone.

        Raises:
            NotFound: The client has no such job.
        """
        raise NotImplementedError

    def jobs_before(self, job: Job) -> int:
        """Returns the number of jobs that begin before a job that is queued."""
        raise NotImplementedError

    def result_path(self, job: Job) -> Path:
        """Returns the file with the result of a job that is done."""
        raise NotImplementedError
