"""Every error that Pexdock raises, arranged by who must act.

PexdockError
├── CallerError            the client: change the request
│   ├── Malformed              the body is not what its media type says
│   ├── Unauthorized           no valid credentials, or the client may not do this
│   ├── Misfit                 the rows or parameters do not fit what the endpoint declares
│   ├── NotFound               no such path, or no artifact for these parameters
│   ├── TooLarge               the body is over its limit
│   ├── UnsupportedMedia       no decoder for this media type
│   ├── NotAcceptable          the response has no form in the media type that the client accepts
│   ├── Conflict               a change that the current state does not allow
│   ├── Gone                   what was removed for good
│   └── Reject                 a handler refuses these rows; raised by the model's author
├── TryLater               nobody: the same request may succeed later
│   ├── Unavailable            no worker is ready, or one exited with the request
│   ├── Full                   a limit is reached
│   └── DeadlineExceeded       the time limit of the request has passed
├── AuthorError            the author of the model
│   ├── Declaration            an endpoint, schema or entry point is declared wrongly
│   ├── HandlerFailed          the handler raised
│   ├── BadResult              the handler's result breaks the contract
│   └── LoadFailed             load_model raised
├── PexRefused             the person who built or deployed the pex
└── PeerError              a process of Pexdock broke the rules of the wire
    └── PeerGone               the other process is gone
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True)
class Cell:
    """A place where a request does not fit, and the reason. `row` counts from 0; None means the whole request."""

    row: int | None
    column: str | None
    reason: str


class PexdockError(Exception):
    """The root of all errors. `code` is stable and meant for programs; `str(error)` is meant for people."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, cells: Sequence[Cell] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cells = tuple(cells)

    def copy_for_caller(self, *, detail: str | None = None, cells: Sequence[Cell] | None = None) -> Self:
        """Returns a new instance of the same error for another caller, with `detail` and `cells` replaced if given."""
        return type(self)(self.detail if detail is None else detail, cells=self.cells if cells is None else cells)


class CallerError(PexdockError):
    """The client must change the request."""

    code = "bad_request"


class Malformed(CallerError):
    code = "malformed"


class Unauthorized(CallerError):
    code = "unauthorized"


class Misfit(CallerError):
    code = "misfit"


class NotFound(CallerError):
    code = "not_found"


class TooLarge(CallerError):
    code = "too_large"


class UnsupportedMedia(CallerError):
    code = "unsupported_media_type"


class NotAcceptable(CallerError):
    code = "not_acceptable"


class Conflict(CallerError):
    code = "conflict"


class Gone(CallerError):
    code = "gone"


class Reject(CallerError):
    """Raised by a handler to reject single rows, whose requests are refused while all others are answered, or the whole request.

    Args:
        status: HTTP status, 400 to 499.
        detail: Message for the client.
        rows: Rows of the frame that the handler was given, counted from 0; none rejects the whole request. Clients see them as rows of
            their own request.

    Raises:
        ValueError: The status is not a whole number between 400 and 499.
    """

    code = "rejected"

    def __init__(
        self, status: int = 422, detail: str = "the model rejects this", rows: Iterable[int] = (), *, cells: Sequence[Cell] = ()
    ) -> None:
        if isinstance(status, float) or status not in range(400, 500):
            raise ValueError(f"a rejection has a whole number from 400 to 499 as its status, not {status!r}")
        super().__init__(detail, cells=[*cells, *(Cell(int(row), None, detail) for row in rows)])
        self.status = operator.index(status)  # numbers of numpy cannot be sent

    def copy_for_caller(self, *, detail: str | None = None, cells: Sequence[Cell] | None = None) -> Self:
        """Returns a new instance, as `PexdockError.copy_for_caller` does."""
        return type(self)(self.status, self.detail if detail is None else detail, cells=self.cells if cells is None else cells)


class TryLater(PexdockError):
    """The same request may succeed later, after `retry_after_s` seconds at the earliest."""

    code = "try_later"
    retryable = True

    def __init__(self, detail: str, *, cells: Sequence[Cell] = (), retry_after_s: int = 1) -> None:
        super().__init__(detail, cells=cells)
        self.retry_after_s = retry_after_s

    def copy_for_caller(self, *, detail: str | None = None, cells: Sequence[Cell] | None = None) -> Self:
        """Returns a new instance, as `PexdockError.copy_for_caller` does."""
        copied = super().copy_for_caller(detail=detail, cells=cells)
        copied.retry_after_s = self.retry_after_s
        return copied


class Unavailable(TryLater):
    code = "unavailable"


class Full(TryLater):
    code = "full"


class DeadlineExceeded(TryLater):
    code = "deadline_exceeded"


class AuthorError(PexdockError):
    """The author of the model must act."""

    code = "model_error"


class Declaration(AuthorError):
    code = "declaration"


class HandlerFailed(AuthorError):
    code = "handler_failed"


class BadResult(AuthorError):
    code = "bad_result"


class LoadFailed(AuthorError):
    code = "load_failed"


class PexRefused(PexdockError):
    """A pex that cannot be served. The message says what is wrong with the file and what to do."""

    code = "pex_refused"


class PeerError(PexdockError):
    """A process of Pexdock broke the rules of the wire. The connection is closed; nothing else is affected."""

    code = "peer_error"


class PeerGone(PeerError):
    """The process on the other side of a channel is gone."""

    code = "peer_gone"
