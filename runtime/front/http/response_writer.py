"""Serializes responses (RFC 9112), and writes them to one connection, whose unsent bytes it counts."""

from __future__ import annotations

import asyncio
import http
import time
from email.utils import formatdate

from runtime.front.http.flow_control import ReadFlowControl
from runtime.front.http.write_buffers import WriteBufferLimit
from runtime.front.requests.response import HttpResponse

_JOINED_MAX_BYTES = 64 * 1024
"""Up to this size one copy is cheaper than a system call with two pieces."""


class ResponseSerializer:
    """Serializes responses. Renews the date at most once a second, when a response needs it, without a timer."""

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
        """Returns the head and body of a small response that keeps the connection open."""
        self._update_date()
        if response.status != 200 or response.more:
            return self.head(response, close=False) + bytes(response.body)
        first = self._ok_heads.get(response.media_type) or self._ok_head(response.media_type)
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (first, response.id.encode(), len(response.body), bytes(response.body))

    def head(self, response: HttpResponse, *, close: bool) -> bytes:
        """Returns the status line, headers and empty line. `close` announces that the connection ends with this response."""
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


class ResponseWriter:
    """Writes the responses of the fast path.

    Args:
        transport: Transport of the connection.
        flow: Flow control of the connection.
        serializer: Shared by all connections.
        limit: Shared by all connections.

    Attributes:
        transport: As given.
        flow: As given.
        final: The response that ends the connection once all others are written, and whether only its head is sent; None if there is none.
    """

    __slots__ = ("_limit", "_serializer", "final", "flow", "transport")

    def __init__(
        self, transport: asyncio.Transport, flow: ReadFlowControl, serializer: ResponseSerializer, limit: WriteBufferLimit
    ) -> None:
        self.transport = transport
        self.flow = flow
        self._serializer = serializer
        self._limit = limit
        self.final: tuple[HttpResponse, bool] | None = None

    def write(self, response: HttpResponse) -> None:
        """Writes a response that keeps the connection open."""
        if len(response.body) <= _JOINED_MAX_BYTES:
            self.transport.write(self._serializer.whole(response))
        else:
            self.transport.writelines([self._serializer.head(response, close=False), response.body])
        if self.flow.write_paused:
            self._limit.set_waiting(self, self.transport.get_write_buffer_size())

    def write_last(self, response: HttpResponse, *, head_only: bool = False) -> None:
        """Writes a response that announces the end of the connection, and closes the connection. One to HEAD has only a head."""
        self.transport.writelines([self._serializer.head(response, close=True), b"" if head_only else response.body])
        self.transport.close()

    def write_final(self) -> None:
        """Writes the final response, if there is one and the connection is still open."""
        if self.final is not None and not self.transport.is_closing():
            response, head_only = self.final
            self.write_last(response, head_only=head_only)

    def pause(self) -> None:
        """Handles a client that does not read its responses as fast as they are written."""
        self.flow.pause_writing()
        self._limit.set_waiting(self, self.transport.get_write_buffer_size())

    def resume(self) -> None:
        """Handles a client that has read most of the bytes that waited for it."""
        self.flow.resume_writing()
        self._limit.forget(self)

    def forget(self) -> None:
        """Handles the end of the connection."""
        self._limit.forget(self)

    def abort(self) -> None:
        """Closes the connection at once, and drops the bytes that wait for its client."""
        self.transport.abort()


def _status_line(status: int) -> bytes:
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:  # a non-standard status that a raw handler chose
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}".encode()
