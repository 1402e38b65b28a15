"""Errors as HTTP responses: the table of statuses, and problem documents (RFC 9457). Knows no server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from base import errors

MEDIA_TYPE = b"application/problem+json"

STATUSES: dict[type[errors.PexdockError], int] = {
    errors.Malformed: 400,
    errors.Unauthorized: 401,
    errors.NotFound: 404,
    errors.NotAcceptable: 406,
    errors.TooLarge: 413,
    errors.UnsupportedMedia: 415,
    errors.Conflict: 409,
    errors.Gone: 410,
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
    401: "Unauthorized",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict with the current state",
    410: "No longer there",
    413: "Body too large",
    415: "Unsupported media type",
    416: "Range not satisfiable",
    422: "Does not match what is declared",
    500: "The model failed",
    503: "Temporarily unavailable",
    504: "Deadline exceeded",
}
_REJECTED = "Rejected by the model"


class _CellError(msgspec.Struct, omit_defaults=True):
    reason: str
    row: int | None = None
    column: str | None = None


class GroupProblem(msgspec.Struct, omit_defaults=True):
    """A group of a request's rows that failed: its values in the columns by which rows are grouped, and the error."""

    group: dict[str, object]
    status: int
    code: str
    detail: str
    errors: list[_CellError] = []


class _ProblemDocument(msgspec.Struct, omit_defaults=True):
    type: str
    title: str
    status: int
    detail: str
    code: str
    id: str
    errors: list[_CellError] = []
    groups: Sequence[GroupProblem] = ()


class Problem(NamedTuple):
    """A response: status, headers (names in lower case), body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


def status_of(error: errors.PexdockError) -> int:
    """Returns the HTTP status of an error."""
    return error.status if isinstance(error, errors.Reject) else STATUSES.get(type(error), 500)


def group_problem(group: dict[str, object], error: errors.PexdockError) -> GroupProblem:
    """Returns the description of a group that failed."""
    return GroupProblem(group, status_of(error), error.code, error.detail, _cell_errors(error))


def make_problem(error: errors.PexdockError, request_id: str, groups: Sequence[GroupProblem] = ()) -> Problem:
    """Returns the response to an error. Errors are made so that it contains no local path, traceback or segment name.

    Args:
        error: The error.
        request_id: Id of the request.
        groups: The groups of its rows that failed, if rows are grouped.
    """
    return _problem(status_of(error), error, request_id, groups)


def method_not_allowed(detail: str, allowed: str, request_id: str) -> Problem:
    """Returns the response to a method that is not in the list `allowed`."""
    problem = _problem(405, errors.CallerError(detail), request_id)
    problem.headers.append((b"allow", allowed.encode()))
    return problem


def range_not_satisfiable(size: int, request_id: str) -> Problem:
    """Returns the response to a range that has none of the `size` bytes of a representation."""
    problem = _problem(416, errors.CallerError(f"the range has none of the {size} bytes; ask for others"), request_id)
    problem.headers.append((b"content-range", b"bytes */%d" % size))
    return problem


def _cell_errors(error: errors.PexdockError) -> list[_CellError]:
    return [_CellError(cell.reason, cell.row, cell.column) for cell in error.cells]


def _problem(status: int, error: errors.PexdockError, request_id: str, groups: Sequence[GroupProblem] = ()) -> Problem:
    title = _REJECTED if isinstance(error, errors.Reject) else _TITLES[status]
    document = _ProblemDocument(
        f"urn:pexdock:{error.code}", title, status, error.detail, error.code, request_id, _cell_errors(error), groups
    )
    headers = [(b"content-type", MEDIA_TYPE), (b"x-request-id", request_id.encode())]
    if isinstance(error, errors.Unauthorized):
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(error, errors.TryLater):
        headers.append((b"retry-after", b"%d" % error.retry_after_s))
    return Problem(status, headers, msgspec.json.encode(document))
