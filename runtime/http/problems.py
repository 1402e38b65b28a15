"""Errors as HTTP answers: the one table of statuses, and RFC 9457 problem documents. Knows no server."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from base import errors

MEDIA_TYPE = b"application/problem+json"

STATUSES: dict[type[errors.PexdockError], int] = {
    errors.Malformed: 400,
    errors.Unauthorized: 401,
    errors.NotFound: 404,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Conflict: 409,
    errors.Misfit: 422,
    errors.PexRefused: 422,
    errors.HandlerFailed: 500,
    errors.BadResult: 500,
    errors.LoadFailed: 500,
    errors.Unavailable: 503,
    errors.Full: 503,
    errors.DeadlineExceeded: 504,
}
_TITLES = {
    400: "Malformed request",
    401: "Not authorized",
    404: "Not found",
    405: "Method not allowed",
    409: "Not as things stand",
    413: "Body too large",
    415: "Unsupported media type",
    422: "Does not fit what the endpoint declares",
    500: "The model failed",
    503: "Not available now",
    504: "Deadline exceeded",
}
_RETRY_AFTER_S = b"1"


class _Cell(msgspec.Struct, omit_defaults=True):
    reason: str
    row: int | None = None
    column: str | None = None


class _Document(msgspec.Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    code: str
    id: str
    errors: list[_Cell] = []


class Problem(NamedTuple):
    """Status, headers (names in lower case), body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def status_of(error: errors.PexdockError) -> int:
    """The HTTP status of an error."""
    return error.status if isinstance(error, errors.Reject) else STATUSES.get(type(error), 500)


def make_problem(error: errors.PexdockError, request_id: str) -> Problem:
    """The answer for an error. Its text names no path of this machine, no traceback and no segment: errors are made so."""
    return _problem(status_of(error), error, request_id)


def method_not_allowed(detail: str, allowed: str, request_id: str) -> Problem:
    """The answer to another verb than those that `allowed` lists."""
    answer = _problem(405, errors.CallerError(detail), request_id)
    answer.headers.append((b"allow", allowed.encode()))
    return answer


def _problem(status: int, error: errors.PexdockError, request_id: str) -> Problem:
    cells = [_Cell(cell.reason, cell.row, cell.column) for cell in error.cells]
    title = "The model does not answer this" if isinstance(error, errors.Reject) else _TITLES[status]
    document = _Document(f"urn:pexdock:{error.code}", title, status, error.detail, error.code, request_id, cells)
    headers = [(b"content-type", MEDIA_TYPE), (b"x-request-id", request_id.encode())]
    if isinstance(error, errors.Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retryable:
        headers.append((b"retry-after", _RETRY_AFTER_S))
    return Problem(status, headers, msgspec.json.encode(document))
