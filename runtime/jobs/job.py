"""A job: what is known of it, its states, and the only ways between them. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

import msgspec

JOB_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""Ids that clients may choose. No file is ever named by them."""

BODY_LOST = "the body of this job is no longer on the server: submit it again"
"""Why a job fails whose body somebody has removed."""


class JobState(StrEnum):
    """State of a job. The values appear in the API and in the database."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        """True if the job has ended. A job that is done may still expire."""
        return self not in {JobState.QUEUED, JobState.RUNNING}


class JobEvent(StrEnum):
    """Things that happen to a job, each of which ends in the state that `STEPS` names."""

    START = "start"
    FINISH = "finish"
    FAIL = "fail"
    CANCEL = "cancel"
    """It ends as cancelled: at once if it is queued, else once its handler has returned or its worker is gone."""
    INTERRUPT = "interrupt"
    """The process that ran it is gone, and it may begin once more."""
    GIVE_BACK = "give back"
    """A drain did not wait for it any longer. This attempt does not count."""
    EXPIRE = "expire"


STEPS: Mapping[tuple[JobState, JobEvent], JobState] = {
    (JobState.QUEUED, JobEvent.START): JobState.RUNNING,
    (JobState.QUEUED, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.QUEUED, JobEvent.FAIL): JobState.FAILED,
    (JobState.QUEUED, JobEvent.EXPIRE): JobState.EXPIRED,
    (JobState.RUNNING, JobEvent.FINISH): JobState.DONE,
    (JobState.RUNNING, JobEvent.FAIL): JobState.FAILED,
    (JobState.RUNNING, JobEvent.CANCEL): JobState.CANCELLED,
    (JobState.RUNNING, JobEvent.INTERRUPT): JobState.QUEUED,
    (JobState.RUNNING, JobEvent.GIVE_BACK): JobState.QUEUED,
    (JobState.DONE, JobEvent.EXPIRE): JobState.EXPIRED,
}
"""The next state, for each possible pair of state and event. An event that cannot happen changes nothing, so a job ends exactly once."""


class Submission(msgspec.Struct, frozen=True, kw_only=True):
    """A job as a front door hands it to the job runner. Its body is already in the folder of incoming bodies, and synced.

    Attributes:
        client: The client that the API key names; empty without keys. Clients see only their own jobs.
        id: The id that the client chose, which is unique among those of this client; None for a new one.
        model: Name of the model, normalized.
        target: Path and query of the request, as the client sent them.
        headers: The headers that the handler may see, and the content type; names in lower case.
        body_file: Name of the file in the folder of incoming bodies.
        body_bytes: Its length.
        digest: SHA-256 of target, content type, body, webhook and the headers that decide about the result, in hexadecimal. It decides
            whether two submissions of one id are the same job.
        release_id: The release on which it must begin, if the client names one and the job runner knows it; empty for any.
        priority: 0 goes before 1, and so on to 7.
        webhook: URL that is told of changes; empty for none.
    """

    client: str = ""
    id: str | None = None
    model: str
    target: str
    headers: dict[str, str] = {}
    body_file: str
    body_bytes: int
    digest: str
    release_id: str = ""
    priority: int = 3
    webhook: str = ""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job with all that its client may ask about it.

    Attributes:
        number: Counts jobs in the order of their arrival. It names the job's folder.
        id: Its id, unique among those of its client.
        submission: What the client wants.
        state: Its state.
        created_s: Time of the submission, in seconds of the wall clock since 1970, as all times here.
        started_s: Time when the last attempt began; None before the first.
        ended_s: Time when it ended; None until then.
        attempts: Number of attempts that have begun and count.
        release_id: The release on which it began, or must begin; empty before that is known.
        cancel_requested: The client has cancelled it, and it has not ended yet.
        fraction: Progress from 0 to 1, if the handler has told it.
        message: The handler's last message.
        error: The problem document of a job that failed; None otherwise.
        result_type: Media type of the stored result; empty if it has none, or if there is no result.
        result_bytes: Its length.
        one_record: The stored result is one row, which is sent as a record rather than as a list of one.
        result_status: Status of the response that is stored as the result.
        failed_groups: Number of groups of its rows that failed, and whose rows the result lacks.
    """

    number: int
    id: str
    submission: Submission
    state: JobState = JobState.QUEUED
    created_s: float
    started_s: float | None = None
    ended_s: float | None = None
    attempts: int = 0
    release_id: str = ""
    cancel_requested: bool = False
    fraction: float | None = None
    message: str = ""
    error: dict[str, object] | None = None
    result_type: str = ""
    result_bytes: int = 0
    one_record: bool = False
    result_status: int = 200
    failed_groups: int = 0


def after_interruption(job: Job, attempts_max: int) -> tuple[JobEvent, dict[str, object] | None]:
    """Returns what happens to a job whose worker or runner is gone, and the problem document if it has failed by that.

    Args:
        job: The job, which was running.
        attempts_max: Number of times that a job may begin.
    """
    if job.cancel_requested:
        return JobEvent.CANCEL, None
    if job.attempts < attempts_max:
        return JobEvent.INTERRUPT, None
    return JobEvent.FAIL, make_error(job, "interrupted", f"the job was interrupted in each of its {job.attempts} attempts; submit it again")


def make_error(job: Job, code: str, detail: str) -> dict[str, object]:
    """Returns a problem document (RFC 9457) of a job that could not be run."""
    title = "The job could not be run"
    return {"type": f"urn:pexdock:{code}", "title": title, "status": 500, "detail": detail, "code": code, "id": job.id}
