"""Sends the responses on one connection in the order of their requests, whichever is ready first (RFC 9112, 9.3.2). Pure."""

from __future__ import annotations

from typing import Generic, TypeVar

R = TypeVar("R")
A = TypeVar("A")


class ResponsePipeline(Generic[R, A]):
    """Holds the open requests of one connection, and the responses that wait for earlier ones. Each key is used once.

    Attributes:
        requests: Open requests by key, in the order of their arrival. The code that submits a request first adds its key with None, since
            it may be answered at once, and replaces None afterwards if it is still open. Only `respond` and `drop` remove entries.
    """

    __slots__ = ("_responses", "requests")

    def __init__(self) -> None:
        self.requests: dict[str, R | None] = {}
        self._responses: dict[str, A] = {}  # responses to requests that are not the first

    def respond(self, key: str, response: A) -> list[A]:
        """Returns the responses that may be sent now: none if an earlier one is missing, or else this one and those that waited for it.

        Raises:
            KeyError: No request is open with this key. Nothing was changed.
        """
        requests = self.requests
        if key != next(iter(requests), None):
            if key not in requests:
                raise KeyError(key)
            self._responses[key] = response
            return []
        del requests[key]
        due = [response]
        while self._responses and (first := next(iter(requests))) in self._responses:
            del requests[first]
            due.append(self._responses.pop(first))
        return due

    def drop(self) -> list[R]:
        """Returns the requests without a response after the connection was lost. Afterwards none is open."""
        lost = [request for key, request in self.requests.items() if key not in self._responses and request is not None]
        self.requests.clear()
        self._responses.clear()
        return lost
