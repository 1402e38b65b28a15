"""A finished HTTP answer, or one whose body is still to come in parts; and its head as bytes."""

from __future__ import annotations

import http
import time
from email.utils import formatdate
from typing import NamedTuple

from runtime.front.requests.stream import ResponseStream

Headers = list[tuple[bytes, bytes]]


class HttpResponse(NamedTuple):
    """Status, media type, the request's id, body, further headers (names in lower case). With a `stream` the body comes from there.

    A body that is a view is memory of others, for whom it matters that nothing refers to it longer than it takes to send it.
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
    """Answers as bytes. Says the time without a timer: once a second, when it is asked for."""

    def __init__(self) -> None:
        self._second = 0
        self._date = b""
        self._ok: dict[bytes, bytes] = {}  # the first lines for each media type

    @property
    def date(self) -> bytes:
        """The value of the header of that name (RFC 9110, 6.6.1)."""
        self._update()
        return self._date

    def whole(self, answer: HttpResponse) -> bytes:
        """Head and body of a small answer after which the connection goes on."""
        self._update()
        if answer.status != 200 or answer.more:
            return self.head(answer, close=False) + bytes(answer.body)
        first = self._ok.get(answer.media_type) or self._first(answer.media_type)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (first, answer.id.encode(), len(answer.body), bytes(answer.body))

    def head(self, answer: HttpResponse, *, close: bool) -> bytes:
        """Status line, headers and the empty line. `close` says that the connection ends with this answer."""
        self._update()
        lines = [_status_line(answer.status), b"date: " + self._date]
        lines += [name + b": " + value for name, value in answer.headers]
        lines += [b"content-length: %d" % len(answer.body), *([b"connection: close"] * close), b"", b""]
        return b"\r\n".join(lines)

    def _first(self, media_type: bytes) -> bytes:
        lines = _status_line(200), b"date: " + self._date, b"content-type: " + media_type, b"x-request-id: "
        found = self._ok[media_type] = b"\r\n".join(lines)
        return found

    def _update(self) -> None:
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._date = formatdate(second, usegmt=True).encode()
            self._ok.clear()


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # a handler's own
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode()
