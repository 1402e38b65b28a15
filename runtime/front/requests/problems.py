"""Converts errors to responses with problem documents, and logs those for which the client is not to blame."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from base.errors import AuthorError, PexdockError
from runtime.front.requests.response import HttpResponse
from runtime.http import problems

log = logging.getLogger(__name__)

_BURST, _PER_S = 100, 10.0
"""Rate limit of the lines about failed requests: an overload fails thousands of them in a second, all for the same reason."""


class _FloodFilter(logging.Filter):
    """Lets a limited number of records through, and adds to the next one how many were dropped."""

    def __init__(self) -> None:
        super().__init__()
        self._left, self._at_s, self._dropped = float(_BURST), 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Returns whether the record is within the limit."""
        now_s = time.monotonic()
        self._left = min(float(_BURST), self._left + (now_s - self._at_s) * _PER_S)
        self._at_s = now_s
        if self._left < 1:
            self._dropped += 1
            return False
        self._left -= 1
        if self._dropped:
            record.msg = f"{record.msg} (no lines about {self._dropped} more failed requests before)"
            self._dropped = 0
        return True


log.addFilter(_FloodFilter())


def problem_response(error: PexdockError, request_id: str, groups: Sequence[problems.GroupProblem] = ()) -> HttpResponse:
    """Returns the response for an error of a request, and logs a server error under the id of the request.

    Args:
        error: The error.
        request_id: Id of the request.
        groups: The groups of its rows that failed, if rows are grouped.
    """
    problem = problems.make_problem(error, request_id, groups)
    if problem.status >= _SERVER_ERROR and type(error) is not PexdockError:  # an internal error was logged where it was caught
        level = logging.WARNING if error.retryable else logging.ERROR
        log.log(level, "request %s: %d %s%s", request_id, problem.status, error.code, _unlogged_detail(error))
    return _response(problem, request_id)


def _unlogged_detail(error: PexdockError) -> str:
    """Returns the detail of an error for the log, unless the worker has logged it, with its traceback, as the incident that it names."""
    return "" if isinstance(error, AuthorError) and "incident " in error.detail else f": {error.detail}"


def log_failed_groups(worst: PexdockError, request_id: str, failed: int, groups: int) -> None:
    """Logs that groups of a request failed and others are answered, if a client is not to blame."""
    if problems.status_of(worst) >= _SERVER_ERROR:
        log.warning("request %s: %d of %d groups failed: %s%s", request_id, failed, groups, worst.code, _unlogged_detail(worst))


def method_not_allowed_response(request_id: str, allowed: str) -> HttpResponse:
    """Returns the response to a method that this path does not accept."""
    return _response(problems.method_not_allowed(f"this path only accepts {allowed}", allowed, request_id), request_id)


def range_not_satisfiable_response(size: int, request_id: str) -> HttpResponse:
    """Returns the response to a range that has none of the `size` bytes of a representation."""
    return _response(problems.range_not_satisfiable(size, request_id), request_id)


def _response(document: problems.Problem, request_id: str) -> HttpResponse:
    more = tuple(each for each in document.headers if each[0] not in _OWN_HEADERS)
    return HttpResponse(document.status, problems.MEDIA_TYPE, request_id, document.body, more)


_SERVER_ERROR = 500

_OWN_HEADERS = (b"content-type", b"x-request-id")
"""Headers for which `HttpResponse` has separate fields."""
