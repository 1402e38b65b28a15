"""Every error that Pexdock raises, arranged by who must act.

PexdockError
├── CallerError            the client: change the request
│   ├── Malformed              the body is not what its media type says
│   ├── Unauthorized           it does not say who asks, or that one may not
│   ├── Misfit                 the rows or parameters do not fit what the endpoint declares
│   ├── NotFound               no such path, or no artifact for these parameters
│   ├── TooLarge               the body is over its limit
│   ├── UnsupportedMedia       no decoder for this media type
│   ├── Conflict               an operator's order that what is there does not allow
│   └── Reject                 a handler will not answer these rows; raised by the model's author
├── TryLater               nobody: the same request may succeed later
│   ├── Unavailable            no worker is ready, or one died with the request
│   ├── Full                   a bound is reached
│   └── DeadlineExceeded       the time of the request is over
├── AuthorError            the author of the model
│   ├── Declaration            an endpoint, schema or entry point is declared wrongly
│   ├── HandlerFailed          the handler raised
│   ├── BadResult              the handler's result breaks the contract
│   └── LoadFailed             load_model raised
├── PexRefused             whoever built or dropped the pex
└── PeerError              a process of ours broke the wire's rules
    └── PeerGone               or is not there any more
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self


@dataclass(frozen=True)
class Cell:
    """Where a request does not fit, and why. `row` counts from 0; None where the whole request is meant."""

    row: int | None
    column: str | None
    reason: str


class PexdockError(Exception):
    """The root. `code` is stable and meant for programs; `str(error)` is meant for people."""

    code: ClassVar[str] = "error"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, cells: Sequence[Cell] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.cells = tuple(cells)

    def again(self, *, detail: str | None = None, cells: Sequence[Cell] | None = None) -> Self:
        """The same error as a new instance, for one more caller; with other words or cells where they are given."""
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


class Conflict(CallerError):
    code = "conflict"


class Reject(CallerError):
    """A handler raises it to say no: to single rows, whose requests then are refused and all others answered, or to the request.

    Args:
        status: the HTTP status, 400 to 499.
        detail: what the client is told.
        rows: of the frame that the handler was given, from 0; none means the request as a whole. Clients see them as rows of their own
            request.

    Raises:
        ValueError: the status is none of a caller's error.
    """

    code = "rejected"

    def __init__(
        self, status: int = 422, detail: str = "the model does not answer this", rows: Iterable[int] = (), *, cells: Sequence[Cell] = ()
    ) -> None:
        if status not in range(400, 500):
            raise ValueError(f"a rejection has a status from 400 to 499, not {status!r}")
        super().__init__(detail, cells=[*cells, *(Cell(int(row), None, detail) for row in rows)])
        self.status = status

    def again(self, *, detail: str | None = None, cells: Sequence[Cell] | None = None) -> Self:
        """See `PexdockError.again`."""
        return type(self)(self.status, self.detail if detail is None else detail, cells=self.cells if cells is None else cells)


class TryLater(PexdockError):
    """The same request may succeed later."""

    code = "try_later"
    retryable = True


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
    """A pex that cannot be served. The message names the file's fault and the way out."""

    code = "pex_refused"


class PeerError(PexdockError):
    """A process of ours broke the rules of the wire. The connection is closed; nothing else is touched."""

    code = "peer_error"


class PeerGone(PeerError):
    """The other side of a channel has ended."""

    code = "peer_gone"
