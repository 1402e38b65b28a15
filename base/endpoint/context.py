"""What a handler may know of the one request that it is called for, and what it may answer with its own hands."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec


def _never() -> bool:
    return False


@dataclass(frozen=True)
class Context:
    """One request, beside its rows. A handler that has a parameter of this type is called with one request at a time.

    All fields have defaults, so a unit test makes one of what it cares about.

    Attributes:
        id: as the client sees it in `x-request-id`.
        headers: those that `@endpoint(headers=[...])` names, as far as the client sent them; names in lower case.
        query: what follows `?` in the URL: every value of each name.
        until: when nobody waits for an answer any more, on `time.monotonic()`.
    """

    id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, Sequence[str]] = field(default_factory=dict)
    until: float = math.inf
    _cancelled: Callable[[], bool] = _never

    @property
    def time_left_s(self) -> float:
        """Seconds until the client is told that it took too long; never negative."""
        return max(0.0, self.until - time.monotonic())

    def cancelled(self) -> bool:
        """Whether the client has hung up or was told that it took too long. Costs a system call: ask now and then, not for each row."""
        return time.monotonic() > self.until or self._cancelled()


@dataclass(frozen=True)
class Request(Context):
    """The request itself, for an endpoint with `raw=True`.

    Attributes:
        body: as it came.
        content_type: its header, empty if there was none.
    """

    body: bytes = b""
    content_type: str = ""

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)


@dataclass(frozen=True)
class Response:
    """What a handler of an endpoint with `raw=True` may return: a body with its media type.

    Such a handler may also return `bytes` (application/octet-stream), `str` (text/plain) or anything that is JSON.
    """

    body: bytes
    content_type: str = "application/octet-stream"
    status: int = 200

    def __post_init__(self) -> None:
        """Refuses what is no answer.

        Raises:
            ValueError: the status is not 200 to 299 (raise `base.errors.Reject` to refuse), or a header could not hold the type.
        """
        if not 200 <= self.status <= 299:
            raise ValueError(f"a response has a status from 200 to 299, not {self.status}; raise base.errors.Reject to refuse a request")
        if not self.content_type.isascii() or not self.content_type.isprintable():
            raise ValueError(f"{self.content_type!r} is no media type")


class RequestContext(msgspec.Struct, frozen=True):
    """A context as it crosses the wire."""

    id: str
    headers: dict[str, str] = {}
    query: dict[str, list[str]] = {}
    content_type: str = ""
