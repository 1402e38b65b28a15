"""Messages between the job runner and who asks it, as lines of JSON: one request a connection, and one or several replies. Pure."""

from __future__ import annotations

import msgspec

from base import errors
from runtime.jobs.documents import JobDocument
from runtime.jobs.job import JobState, Submission
from runtime.jobs.store.interface import JobStoreUnusable

LINE_MAX_BYTES = 64 * 1024 * 1024
"""Size limit of a message. A list of a thousand jobs that have all failed takes a few megabytes."""

COUNT_MAX = 1000
"""Limit of the jobs in one list."""

_UNUSABLE_RETRY_AFTER_S = 60
"""Time in seconds after which to ask again while the operator has to act."""


class SubmitJob(msgspec.Struct, frozen=True, tag="submit", tag_field="type"):
    """Store a job. The reply is `JobFound`, once it survives a power cut."""

    submission: Submission


class GetJob(msgspec.Struct, frozen=True, tag="get", tag_field="type"):
    """Describe a job of a client. The reply is `JobFound`."""

    client: str
    id: str


class CancelJob(msgspec.Struct, frozen=True, tag="cancel", tag_field="type"):
    """Cancel a job of a client, unless it has ended. The reply is `JobFound`."""

    client: str
    id: str


class FindResult(msgspec.Struct, frozen=True, tag="result", tag_field="type"):
    """Name the file with the result of a job of a client. The reply is `ResultFound`."""

    client: str
    id: str


class FollowJob(msgspec.Struct, frozen=True, tag="follow", tag_field="type"):
    """Report a job of a client as it is, as `JobFound`, and then its changes, as `JobChanged`, until it has ended.

    Attributes:
        client: The client.
        id: Id of the job.
        after: Number of the last change that is known; 0 for none.
    """

    client: str
    id: str
    after: int = 0


class ListJobs(msgspec.Struct, frozen=True, tag="list", tag_field="type"):
    """List jobs, the newest first. The reply is `JobsFound`.

    Attributes:
        client: The client that they belong to; None for all jobs, with their clients.
        states: States to list; empty for all.
        model: Normalized name of the model to list; empty for all.
        before: Only jobs with lower numbers, which continues a list.
        count_max: Limit of their number, at most COUNT_MAX.
        after: Likewise, the id of the last job of this client that is known, since numbers would tell it of other clients' jobs.
        id: The id to list, which each client may have once; empty for all.
    """

    client: str | None
    states: list[JobState] = []
    model: str = ""
    before: int | None = None
    count_max: int = 100
    after: str = ""
    id: str = ""


class JobFound(msgspec.Struct, frozen=True, tag="job", tag_field="type"):
    """A job, and whether this request has made it."""

    document: JobDocument
    is_new: bool = False


class JobsFound(msgspec.Struct, frozen=True, tag="jobs", tag_field="type"):
    """Jobs, and the number that continues the list; None if there are no more."""

    documents: list[JobDocument]
    before: int | None = None


class JobChanged(msgspec.Struct, frozen=True, tag="changed", tag_field="type"):
    """A job after a change. Numbers of later changes are higher."""

    number: int
    document: JobDocument


class ResultFound(msgspec.Struct, frozen=True, tag="result_found", tag_field="type"):
    """The file with the result of a job.

    Attributes:
        document: The job.
        number: Number of the job, which no other job ever has.
        path: Path of the file. It may be removed at any time, since results expire.
        one_record: It is one row, which is sent as a record rather than as a list of one.
        status: Status of the response that is stored as the result.
    """

    document: JobDocument
    number: int
    path: str
    one_record: bool = False
    status: int = 200


class Refused(msgspec.Struct, frozen=True, tag="refused", tag_field="type"):
    """The request was refused."""

    code: str
    detail: str
    retry_after_s: int = 1

    @classmethod
    def from_error(cls, error: errors.PexdockError) -> Refused:
        """Returns the reply for an error."""
        if isinstance(error, JobStoreUnusable):
            error = errors.Unavailable(f"{error.reason}; the log of Pexdock says what to do", retry_after_s=_UNUSABLE_RETRY_AFTER_S)
        return cls(error.code, error.detail, error.retry_after_s if isinstance(error, errors.TryLater) else 1)

    def to_error(self) -> errors.PexdockError:
        """Returns the error."""
        kind = _KINDS.get(self.code, errors.PexdockError)
        return kind(self.detail, retry_after_s=self.retry_after_s) if issubclass(kind, errors.TryLater) else kind(self.detail)


_KINDS: dict[str, type[errors.PexdockError]] = {
    each.code: each for each in (errors.NotFound, errors.Conflict, errors.Gone, errors.Misfit, errors.Full, errors.Unavailable)
}

JobRequest = SubmitJob | GetJob | CancelJob | FindResult | FollowJob | ListJobs
JobReply = JobFound | JobsFound | JobChanged | ResultFound | Refused

_request_decoder: msgspec.json.Decoder[JobRequest] = msgspec.json.Decoder(JobRequest)
_reply_decoder: msgspec.json.Decoder[JobReply] = msgspec.json.Decoder(JobReply)


def encode_line(message: JobRequest | JobReply) -> bytes:
    """Returns a message as a line."""
    return msgspec.json.encode(message) + b"\n"


def decode_request(line: bytes) -> JobRequest:
    """Returns the request in a line. Raises the errors of msgspec."""
    return _request_decoder.decode(line)


def decode_reply(line: bytes) -> JobReply:
    """Returns the reply in a line. Raises the errors of msgspec."""
    return _reply_decoder.decode(line)
