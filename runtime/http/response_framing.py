"""Frames the responses of an ASGI application, so that each ends for its client where it ends for the server (RFC 9112, 6).

uvicorn sends what the application gives it: a body after a status that has none, and chunks to clients of HTTP/1.0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from base.endpoint.response_rules import allows_body

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent, HTTPResponseBodyEvent, HTTPResponseStartEvent
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

_OF_A_BODY = frozenset((b"content-length", b"content-type"))
_OF_THE_SERVER = frozenset((b"keep-alive", b"trailer", b"transfer-encoding", b"upgrade"))


class ResponseFraming:
    """Sends the response to one request.

    Args:
        cycle: The request, as uvicorn knows it.
    """

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle
        self._has_body = True
        self._ends_with_connection = False

    async def send(self, message: ASGISendEvent) -> None:
        """Sends a part of the response (the ASGI callable).

        Raises:
            RuntimeError: The application broke the rules of ASGI or HTTP.
        """
        match message["type"]:
            case "http.response.start":
                await self._cycle.send(self._framed_head(message))
            case "http.response.body":
                await self._cycle.send(self._framed_part(message))
            case kind:
                raise RuntimeError(f"unexpected ASGI message {kind}")

    def _framed_head(self, message: HTTPResponseStartEvent) -> HTTPResponseStartEvent:
        status, headers = message["status"], list(message.get("headers", ()))
        names = [name.lower() for name, _ in headers]
        if not 200 <= status <= 599 or names.count(b"content-length") > 1 or not _OF_THE_SERVER.isdisjoint(names):
            raise RuntimeError(f"a response of status {status} whose framing the application decides: {names}")
        self._has_body = allows_body(status)
        if not self._has_body:
            headers = [each for each in headers if each[0].lower() not in _OF_A_BODY]
            headers += [(b"content-length", b"0")] * (status == 205)
        elif b"content-length" not in names and self._cycle.scope["http_version"] == "1.0":
            self._ends_with_connection = True
            self._cycle.keep_alive = False
            self._cycle.chunked_encoding = False
        return {**message, "headers": headers}

    def _framed_part(self, message: HTTPResponseBodyEvent) -> HTTPResponseBodyEvent:
        if not self._has_body:
            return {**message, "body": b""}
        if self._ends_with_connection:
            self._cycle.expected_content_length = len(message.get("body", b""))  # by which uvicorn checks this part
        return message
