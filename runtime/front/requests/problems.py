"""Errors as answers of a front door."""

from __future__ import annotations

from base.errors import PexdockError
from runtime.front.requests.response import HttpResponse
from runtime.http import problems


def problem(error: PexdockError, request_id: str) -> HttpResponse:
    """See `problems.problem`."""
    return _answer(problems.make_problem(error, request_id), request_id)


def method_not_allowed(request_id: str) -> HttpResponse:
    """The answer to another verb than POST on an endpoint's path."""
    return _answer(problems.method_not_allowed("an endpoint takes POST", "POST", request_id), request_id)


def _answer(found: problems.Problem, request_id: str) -> HttpResponse:
    more = tuple(each for each in found.headers if each[0] not in _OWN)
    return HttpResponse(found.status, problems.MEDIA_TYPE, request_id, found.body, more)


_OWN = (b"content-type", b"x-request-id")
"""What an answer has in fields of its own."""
