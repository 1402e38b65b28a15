"""Errors as answers of a front door."""

from __future__ import annotations

from base.errors import PexdockError
from runtime import problems
from runtime.front.answer import Answer


def problem(error: PexdockError, request_id: str) -> Answer:
    """See `problems.problem`."""
    return Answer(*problems.problem(error, request_id))


def method_not_allowed(request_id: str) -> Answer:
    """The answer to another verb than POST on an endpoint's path."""
    return Answer(*problems.method_not_allowed("an endpoint takes POST", "POST", request_id))
