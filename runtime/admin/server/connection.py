"""One connection of a client of the admin API: uvicorn's protocol, with limits until a request is complete.

Anybody who can reach the port can connect, and the token arrives only with a complete head. Until then, a connection must cost almost
nothing: a few bytes, a few seconds, and a slot that a new client can take over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from base.errors import Full, Malformed, PexdockError
from runtime.admin.api.limits import HANG_UP, REQUEST_S
from runtime.admin.api.responses import problem_response
from runtime.http import head_rules
from runtime.http.asgi_connection import AsgiConnection
from runtime.http.lingering import LingeringTransport, has_unread_data

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

_LINGERING_MAX = 4
"""Connections that are open or closing, per connection that may be open. Beyond them a closed one is not read until its client ends, so
that clients without a token cannot take all descriptors."""


@dataclass(frozen=True)
class Limits:
    """Limits of all connections.

    Attributes:
        connections: Number of connections at once; each may hold a response of megabytes.
        head_s: Time limit for a complete head, counted from the start of the connection or the first byte.
        keep_alive_s: Time for which a connection may be idle after a response.
        handshake_s: Time limit of a TLS handshake.
        head_bytes: Size limit of a head, of a chunk's extensions, and of trailers.
    """

    connections: int = 32
    head_s: float = 5.0
    keep_alive_s: float = 75.0
    handshake_s: float = 10.0
    head_bytes: int = head_rules.HEAD_MAX_BYTES


class AdminConnection(AsgiConnection):
    """The protocol of one connection.

    Attributes:
        waiting_since_s: Time at which the connection began to wait for a head, by the loop's clock.
    """

    def __init__(self, limits: Limits, config: Config, server_state: ServerState) -> None:
        super().__init__(config, server_state, {})
        self._limits = limits
        self._in_head = True
        self._head_bytes = 0  # bytes that the parser has found in the head
        self._framing_bytes = 0  # bytes that arrived since the parser found anything else
        self._deadline: asyncio.TimerHandle | None = None
        self._begun = self._idle = False  # whether a request has begun, or else nothing has come since the last response
        self.waiting_since_s = self.loop.time()

    # ---- events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handles a new client. If there are too many, it replaces an idle one, or is refused."""
        lingering = LingeringTransport(transport, self)
        super().connection_made(cast("asyncio.Transport", lingering))
        if len(self.connections) > _LINGERING_MAX * self._limits.connections:
            lingering.linger_no_more()
        self._start_timer(self._limits.head_s, self._close)
        others = [each for each in cast("set[AdminConnection]", self.connections) if each is not self and not each.transport.is_closing()]
        if len(others) >= self._limits.connections:
            idle = [each for each in others if not each.is_open]  # a client with a request has sent the token, and stays connected
            if idle:
                min(idle, key=lambda each: each.waiting_since_s).transport.abort()
            else:
                self._refuse(Full(f"too many connections to the admin API, limit {self._limits.connections}; try again later"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection."""
        super().connection_lost(exc)
        self._stop_timer()

    def data_received(self, data: bytes) -> None:
        """Parses bytes. Only HTTP/1 is supported."""
        if self._idle:
            self._idle = False
            self._start_timer(self._limits.head_s, self._close)
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(Malformed("the request is not HTTP/1.1, or is ambiguous, or its head is too long"))
        else:
            if self._framing_bytes > self._limits.head_bytes:
                self._refuse(Malformed(f"the head is too long; the limit is {self._limits.head_bytes} bytes"))

    # ---- events of the parser

    def on_message_begin(self) -> None:
        """Handles the beginning of a request."""
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[HANG_UP] = self._hang_up
        self._in_head = self._begun = True
        self._head_bytes = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Handles a piece of the request's target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handles a header field. Trailers are ignored: they come after the token was checked."""
        if not self._in_head:
            return
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Handles the end of a head."""
        head_rules.check_head(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Handles a piece of a body."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Handles the end of a request."""
        super().on_message_complete()
        self._in_head, self._begun, self._framing_bytes = True, False, 0

    # ---- responses

    def on_response_complete(self) -> None:
        """Handles the end of a response. The next head must come in time, and so must the rest of a body."""
        super().on_response_complete()
        if not self.is_open and not self.transport.is_closing():
            self._idle = not self._begun
            if self._idle:
                self._start_timer(self._limits.keep_alive_s, self._close_idle)
            else:
                self._start_timer(self._limits.head_s, self._close)

    def _refuse(self, error: PexdockError) -> None:
        """Sends an error and closes the connection, unless the error could be taken for the response to an earlier request."""
        if self.is_open:
            if self.pipeline and self.cycle.more_body:
                self.drop_latest_waiting()
            if not self.cycle.more_body:  # earlier requests still get their responses
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
        if self._in_head or not self.cycle.response_started:
            self._write_error(error)
        self._close()
        self.disconnect_running()

    def _write_error(self, error: PexdockError) -> None:
        response = problem_response(error)
        response.headers["connection"] = "close"
        lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        # The parser knows the method once it has met the target; before that, it has the method of the previous request.
        head_only = bool(getattr(self, "url", b"")) and self.parser.get_method() == b"HEAD"
        body = b"" if head_only else bytes(response.body)
        self.transport.write(b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", body]))

    def _hang_up(self) -> None:
        """Closes the connection at once, and drops unsent data."""
        if self.running is not None:
            self.running.disconnected = True
        self.transport.abort()

    # ---- limits

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise ValueError("the head is too long")

    def _start_timer(self, limit_s: float, on_over: Callable[[], None]) -> None:
        self._stop_timer()
        self.waiting_since_s = self.loop.time()
        self._deadline = self.loop.call_later(limit_s, on_over)

    def _stop_timer(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_idle(self) -> None:
        """Closes a connection between two requests, unless one has just come."""
        if not has_unread_data(self.transport):
            self._idle = False
            self.transport.close()

    def _close(self) -> None:
        """Closes the connection. The client may still read the sent data, for as long as a request may take."""
        self.transport.close()
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)
