"""The JSON documents in which clients and operators see jobs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from runtime.jobs.job import Job, JobState


class ResultDocument(msgspec.Struct, frozen=True, omit_defaults=True):
    """The stored result of a job. Rows are stored as an Arrow stream, and can be fetched in every media type.

    Attributes:
        media_type: Its media type as it is stored.
        bytes: Its length as it is stored.
        failed_groups: Number of groups of rows that failed, and whose rows it lacks.
    """

    media_type: str
    bytes: int
    failed_groups: int = 0


class JobDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job as clients and operators see it. Fields without a value are left out.

    Attributes:
        id: Its id.
        state: Its state.
        model: Name of the model.
        target: Path and query of the endpoint, behind the method if that is not POST.
        priority: 0 goes before 1, and so on to 7.
        place: Place in the queue, from 1 for the next one; only of a queued job.
        fraction: Progress from 0 to 1, if the handler has told it.
        message: The handler's last message.
        created_at: Time of the submission.
        started_at: Time when the last attempt began.
        ended_at: Time when it ended.
        attempts: Number of attempts that have begun.
        release: The release on which it began.
        cancel_requested: It was cancelled, and has not ended yet.
        error: The problem document of a job that failed.
        result: The stored result of a job that is done.
        client: The client that submitted it; only for operators.
    """

    id: str
    state: JobState
    model: str
    target: str
    priority: int = 3
    place: int | None = None
    fraction: float | None = None
    message: str = ""
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    attempts: int = 0
    release: str = ""
    cancel_requested: bool = False
    error: dict[str, Any] | None = None
    result: ResultDocument | None = None
    client: str = ""

    @property
    def reason(self) -> str:
        """Returns why the job failed; empty if it has not."""
        return "" if self.error is None else str(self.error.get("detail", ""))


class JobList(msgspec.Struct, frozen=True):
    """Jobs, the newest first.

    Attributes:
        jobs: The jobs.
        next: Cursor of the jobs after these; None if there are no more.
    """

    jobs: list[JobDocument]
    next: str | None = None


def job_document(job: Job, *, place: int | None = None, client: str = "") -> JobDocument:
    """Returns the document of a job.

    Args:
        job: The job.
        place: Its place in the queue; None unless it is queued.
        client: The client to name; empty in documents for clients.
    """
    method, _, path = job.submission.target.partition("/")
    return JobDocument(
        id=job.id,
        state=job.state,
        model=job.submission.model,
        target=f"{method} /{path}".strip(),
        priority=job.submission.priority,
        place=place,
        fraction=job.fraction,
        message=job.message,
        created_at=_utc(job.created_s),
        started_at=None if job.started_s is None else _utc(job.started_s),
        ended_at=None if job.ended_s is None else _utc(job.ended_s),
        attempts=job.attempts,
        release=job.release_id,
        cancel_requested=job.cancel_requested,
        error=job.error,
        result=ResultDocument(job.result_type, job.result_bytes, job.failed_groups) if job.state is JobState.DONE else None,
        client=client,
    )


def _utc(time_s: float) -> datetime:
    return datetime.fromtimestamp(time_s, UTC)
