"""An HTTP response, whole or streamed, and its bytes on the wire."""

from __future__ import annotations

import http
import time
from email.utils import formatdate
from typing import NamedTuple

from runtime.front.requests.response_stream import ResponseStream

Headers = list[tuple[bytes, bytes]]


class HttpResponse(NamedTuple):
    """A response to one request.

    Attributes:
        body: Whole body; empty where it is streamed. A memoryview belongs to a worker's reply: drop it once it is sent.
        more: Further headers; names are in lower case.
        stream: Parts of a streamed body.
    """

    status: int
    media_type: bytes
    id: str
    body: bytes | memoryview
    more: tuple[tuple[bytes, bytes], ...] = ()
    stream: ResponseStream | None = None

    @property
    def headers(self) -> Headers:
        """All headers but those that depend on the connection and on how the body is sent."""
        return [(b"content-type", self.media_type), (b"x-request-id", self.id.encode()), *self.more]


class ResponseSerializer:
    """Serializes responses. Renews the date once a second, without a timer: when a response needs it."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""
        self._ok_heads: dict[bytes, bytes] = {}  # first lines by media type

    @property
    def date(self) -> bytes:
        """The value of the Date header (RFC 9110, 6.6.1)."""
        self._update_date()
        return self._date

    def whole(self, response: HttpResponse) -> bytes:
        """Returns head and body of a small response that keeps the connection open."""
        self._update_date()
        if response.status != 200 or response.more:
            return self.head(response, close=False) + bytes(response.body)
        first = self._ok_heads.get(response.media_type) or self._ok_head(response.media_type)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (first, response.id.encode(), len(response.body), bytes(response.body))

    def head(self, response: HttpResponse, *, close: bool) -> bytes:
        """Returns status line, headers and the empty line. `close` announces that the connection ends with this response."""
        self._update_date()
        lines = [_status_line(response.status), b"date: " + self._date]
        lines += [name + b": " + value for name, value in response.headers]
        lines += [b"content-length: %d" % len(response.body), *([b"connection: close"] * close), b"", b""]
        return b"\r\n".join(lines)

    def _ok_head(self, media_type: bytes) -> bytes:
        lines = _status_line(200), b"date: " + self._date, b"content-type: " + media_type, b"x-request-id: "
        head = self._ok_heads[media_type] = b"\r\n".join(lines)
        return head

    def _update_date(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
            self._ok_heads.clear()


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # a status that a raw handler chose
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode()
