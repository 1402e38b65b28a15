"""The request that a handler may ask for, and the response that it may build itself."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from base.endpoint.response_rules import check_response
from base.jobs.attempt import JobAttempt


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Context:
    """One request without its rows. A handler that has a parameter of this type is called with one request at a time.

    All fields have defaults, so that a unit test sets only those that it needs.

    Attributes:
        id: The request's id, as the client sees it in `x-request-id`.
        headers: The headers that `@endpoint(headers=[...])` names and that the client sent; names in lower case.
        query: The values of each name in the URL's query string.
        until: Deadline of the request, on `time.monotonic()`.
    """

    id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    until: float = math.inf
    _cancelled: Callable[[], bool] = _never
    _job: JobAttempt | None = None

    @property
    def time_left_s(self) -> float:
        """Returns the seconds until the request's deadline; never negative."""
        return max(0.0, self.until - time.monotonic())

    def cancelled(self) -> bool:
        """Returns True once the client has disconnected or the deadline has passed; in a job, once it was cancelled or its time is over.

        Costs a system call, so do not call it for each row.
        """
        return time.monotonic() > self.until or self._cancelled()

    @property
    def is_job(self) -> bool:
        """Returns True if nobody waits for the response, so that the handler may take long, report progress and store checkpoints."""
        return self._job is not None

    @property
    def attempt(self) -> int:
        """Returns the number of this attempt at a job, from 1; it is above 1 after a process or the machine stopped. 1 without a job."""
        return 1 if self._job is None else self._job.number

    @property
    def checkpoint_path(self) -> Path | None:
        """Returns the file or folder that `checkpoint` has stored last, in this attempt or in one before; None if there is none."""
        return None if self._job is None else self._job.newest_checkpoint()

    def progress(self, fraction: float | None, message: str = "") -> None:
        """Reports the progress of a job to those who ask about it. Does nothing without a job.

        Reports may be frequent: above ten a second, after a burst, only some of them are sent, and the one with the fraction 1.

        Args:
            fraction: From 0 to 1; a value outside is moved to the nearer end. None if it is not known.
            message: A message for people, of at most 1 000 characters.
        """
        if self._job is not None:
            self._job.progress(fraction, message)

    def checkpoint(self, path: str | Path) -> None:
        """Stores a copy of a file or folder, which the next attempt at this job finds as `checkpoint_path`. Does nothing without a job.

        The copy is on disk when this returns, and replaces the checkpoint before.

        Raises:
            OSError: It cannot be copied. The checkpoint before is still there.
        """
        if self._job is not None:
            self._job.store_checkpoint(Path(path))


@dataclass(frozen=True)
class Request(Context):
    """The unparsed request, for an endpoint with `raw=True`.

    Attributes:
        body: The body as the client sent it.
        content_type: The value of the Content-Type header; empty if there was none.
    """

    body: bytes = b""
    content_type: str = ""

    def json(self) -> Any:
        """Returns the body, parsed as JSON.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """A body with its media type, which the handler of an endpoint with `raw=True` may return.

    Such a handler may also return `bytes` (application/octet-stream), `str` (text/plain) or anything that has a form in JSON.

    Attributes:
        body: The body; empty for the statuses 204 and 205, which have none.
        content_type: The media type; empty for a response without a Content-Type header.
        status: 200 to 299.
    """

    body: bytes
    content_type: str = "application/octet-stream"
    status: int = 200

    def __post_init__(self) -> None:
        """Checks that HTTP allows the response.

        Raises:
            InvalidResponse: The status is not 200 to 299 (raise `base.errors.Reject` to refuse a request), a status without a body has one,
                or the media type is invalid.
        """
        check_response(self.status, self.content_type, len(self.body))


class JobContext(msgspec.Struct, frozen=True):
    """The wire form of a job's attempt: its number from 1, and the folder of the job's checkpoints."""

    attempt: int
    folder: str


class RequestContext(msgspec.Struct, frozen=True, omit_defaults=True):
    """The wire form of a `Context`.

    Attributes:
        arrow: The parts of a streamed answer are record batches of one Arrow stream, as the client wants it.
    """

    id: str
    headers: dict[str, str] = {}
    query: dict[str, list[str]] = {}
    content_type: str = ""
    job: JobContext | None = None
    arrow: bool = False
