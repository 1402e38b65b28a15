"""What a store of jobs does, its limits and its errors. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from base.errors import PexdockError
from runtime.jobs.job import Job, JobEvent, JobState, Submission

PAGE_MAX_JOBS = 1000
"""Jobs of one page of a list: about a megabyte."""

_RESERVE_MIN_BYTES, _RESERVE_MAX_BYTES = 256 * 1024, 4 * 1024**2
"""Room for a single transaction, and for the largest one, in which thousands of jobs expire."""


class JobStoreUnusable(PexdockError):
    """The store cannot be used until somebody acts. Nothing was changed, removed or overwritten.

    Args:
        detail: Says to operators what to do. It has paths, which clients must not see.
        reason: The same for clients, as a sentence without an end.
    """

    code = "job_store_unusable"

    def __init__(self, detail: str, reason: str) -> None:
        super().__init__(detail)
        self.reason = reason


class ImpossibleStep(PexdockError):
    """The event cannot happen in the job's state, for example since it was cancelled or has expired meanwhile. Nothing was changed."""

    code = "impossible_step"


@dataclass(frozen=True)
class JobLimits:
    """Limits of a store. The settings `job_*` of the same names describe them.

    Attributes:
        attempts: Number of times that a job may begin.
        queue_max: Jobs that may wait.
        queue_client_max: Jobs of one client that may wait.
        queue_max_age_s: Age at which a job that still waits expires.
        bodies_max_bytes: Bodies of all jobs that have not ended.
        results_max_bytes: Results of all jobs; beyond, the oldest expire.
        result_max_age_s: Age at which a result expires.
        record_max_age_s: Age at which a job that has ended is forgotten.
        disk_min_free_bytes: Free space on the disk below which no job is accepted.
    """

    attempts: int = 3
    queue_max: int = 10_000
    queue_client_max: int = 2_000
    queue_max_age_s: float = 7 * 86400
    bodies_max_bytes: int = 16 * 1024**3
    results_max_bytes: int = 16 * 1024**3
    result_max_age_s: float = 86400
    record_max_age_s: float = 7 * 86400
    disk_min_free_bytes: int = 256 * 1024**2

    @property
    def reserve_bytes(self) -> int:
        """Returns the room in bytes that a file keeps for the database."""
        return max(self.results_left_bytes, _RESERVE_MIN_BYTES) if self.disk_min_free_bytes else 0

    @property
    def results_left_bytes(self) -> int:
        """Returns the free space in bytes that results leave."""
        return min(self.disk_min_free_bytes // 2, _RESERVE_MAX_BYTES)

    @property
    def tidy_s(self) -> float:
        """Returns the interval in seconds at which `JobStore.tidy` is called: a tenth of the shortest age, but from 1 s to a minute."""
        return min(60.0, max(1.0, min(self.queue_max_age_s, self.result_max_age_s, self.record_max_age_s) / 10))


class AddedJob(NamedTuple):
    """A job that was submitted. `is_new` is False if it was there before."""

    job: Job
    is_new: bool


class JobResult(NamedTuple):
    """Kind of a result, whose file is sealed already (`JobFiles.seal_result`). `Job` describes the fields."""

    media_type: str
    one_record: bool = False
    status: int = 200
    failed_groups: int = 0


class JobUsage(NamedTuple):
    """Numbers of jobs, and bytes of bodies and results."""

    queued: int
    running: int
    body_bytes: int
    result_bytes: int


class JobStore(Protocol):
    """Stores jobs so that none is lost and each ends exactly once. What a call returns is on the disk, unless it says otherwise.

    Calls block, and are made one at a time, from any thread. Each but `set_progress` may raise `Unavailable` or `Full` if the disk does not
    let it, having changed nothing, so that it can be repeated; or `JobStoreUnusable`, after which the store is of no more use.
    """

    def recover(self) -> None:
        """Ends what the death of the last process has interrupted: jobs that ran wait again, have failed, or are cancelled.

        It is called first, and repeated until it succeeds. Meanwhile, jobs can be found, listed and cancelled.
        """

    def add(self, submission: Submission) -> AddedJob:
        """Stores a new job, or returns the one that is there. Its incoming body is moved to its folder, or removed.

        It may be repeated if the caller does not know its outcome: the same body file is the same job.

        Raises:
            Conflict: The client has another job of this id. Nothing was changed.
            Full: A limit is reached, or the disk is full. Nothing was changed.
        """

    def get(self, client: str, job_id: str) -> Job:
        """Returns a job of this client.

        Raises:
            NotFound: The client has no such job, or it was forgotten.
        """

    def list_jobs(
        self,
        *,
        client: str | None = None,
        job_id: str = "",
        states: Collection[JobState] = (),
        model: str = "",
        before: int | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Returns jobs, newest first.

        Args:
            client: Only jobs of this client; None for those of all.
            job_id: Only jobs of this id, which each client may have once; empty for all.
            states: Only jobs in these states; empty for all.
            model: Only jobs of this model; empty for all.
            before: Only jobs with a lower number, which continues a list.
            limit: Number of jobs, at most `PAGE_MAX_JOBS`.
        """

    def step(
        self,
        number: int,
        event: JobEvent,
        *,
        release_id: str = "",
        error: dict[str, object] | None = None,
        result: JobResult | None = None,
    ) -> Job:
        """Applies an event to a job, and returns the job as it is then. Removes the files that it no longer needs.

        A job whose cancellation was requested is cancelled instead of being queued again.

        Args:
            number: Number of the job.
            event: What happens to it. `GIVE_BACK` takes back the attempt that `START` has counted.
            release_id: The release on which it begins, for `START`.
            error: Problem document, for `FAIL`.
            result: Its sealed result, for `FINISH`; None if it has none.

        Raises:
            ImpossibleStep: The event cannot happen in the job's state, or the job was forgotten. Nothing was changed.
        """

    def set_progress(self, number: int, fraction: float | None, message: str) -> None:
        """Sets the progress of a running job; of others it is ignored. Touches no disk, and may be called at any time from any thread.

        It is stored when the job ends, and lost when the process dies before.
        """

    def request_cancel(self, client: str, job_id: str) -> Job:
        """Cancels a job that waits, notes that one that runs is to be cancelled, and changes no other. Returns the job as it is then.

        Raises:
            NotFound: The client has no such job, or it was forgotten.
        """

    def waiting(self) -> list[Job]:
        """Returns all jobs that wait, in the order of their arrival."""

    def tidy(self) -> list[Job]:
        """Does what time brings: expires results and jobs, forgets old ones, removes bodies of front doors that died.

        The caller calls it every `JobLimits.tidy_s`, and when a job is done. A call does a bounded amount of work.

        Returns:
            The jobs that have expired, as they are then.
        """

    def unsent_webhooks(self) -> list[Job]:
        """Returns the first jobs that have ended and whose webhook has not been told so, by turns of clients."""

    def set_webhook_sent(self, number: int) -> None:
        """Notes that the webhook of a job knows its end, or that there was no telling it."""

    def check_room(self) -> None:
        """Returns if there is room for more jobs on the disk.

        Raises:
            Full: There is too little. The message says what to do.
        """

    def usage(self) -> JobUsage:
        """Returns numbers and bytes. Touches no disk."""

    def close(self) -> None:
        """Closes the store. Idempotent."""
