"""Converts errors to responses with problem documents."""

from __future__ import annotations

from base.errors import PexdockError
from runtime.front.requests.response import HttpResponse
from runtime.http import problems


def problem_response(error: PexdockError, request_id: str) -> HttpResponse:
    """Returns the response for an error."""
    return _response(problems.make_problem(error, request_id), request_id)


def method_not_allowed_response(request_id: str) -> HttpResponse:
    """Returns the response to a method other than POST on an endpoint's path."""
    return _response(problems.method_not_allowed("endpoints only accept POST", "POST", request_id), request_id)


def _response(document: problems.Problem, request_id: str) -> HttpResponse:
    more = tuple(each for each in document.headers if each[0] not in _OWN_HEADERS)
    return HttpResponse(document.status, problems.MEDIA_TYPE, request_id, document.body, more)


_OWN_HEADERS = (b"content-type", b"x-request-id")
"""Headers for which `HttpResponse` has separate fields."""
