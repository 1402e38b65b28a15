"""One connection of somebody who asks the admin side: uvicorn's protocol, with bounds on what is not yet a request.

Whoever reaches the port may connect, and shows the token only by the end of a head. Until then a connection may cost next to nothing: some
bytes, some seconds, and a place that goes to who comes next.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from base.errors import Full, Malformed, PexdockError
from runtime.admin.api.limits import HANG_UP, REQUEST_S
from runtime.admin.api.responses import problem_response
from runtime.http import head_rules

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


@dataclass(frozen=True)
class Limits:
    """What connections may take.

    Attributes:
        connections: at once; each may hold an answer of megabytes.
        head_s: until a head is whole, from the connection or the answer before it on.
        head_bytes: of a head, of a chunk's extensions, of trailers.
    """

    connections: int = 32
    head_s: float = 10.0
    head_bytes: int = head_rules.HEAD_MAX_BYTES


class AdminConnection(HttpToolsProtocol):
    """The protocol of one connection.

    Attributes:
        since: when a head was awaited for the last time, by the loop's clock.
    """

    def __init__(self, limits: Limits, config: Config, clients: ServerState) -> None:
        super().__init__(config, clients, {})
        self._limits = limits
        self._in_head = True
        self._head_bytes = self._framing_bytes = 0  # what the parser found in the head, and what came since it found anything else
        self._running: RequestResponseCycle | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self.since = self.loop.time()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked over it: whoever has shown the token is not made to go."""
        return self._running is None or self._running.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Stays, in the place of somebody idle if need be."""
        super().connection_made(transport)
        self._await_head()
        there = [each for each in cast("set[AdminConnection]", self.connections) if not each.transport.is_closing()]
        if len(there) > self._limits.connections:
            self._take_place_of([each for each in there if each.idle and each is not self])

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the request that runs, where uvicorn tells the latest only."""
        super().connection_lost(exc)
        self._await_nothing()
        self.pipeline.clear()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def data_received(self, data: bytes) -> None:
        """Parses it. Other protocols than HTTP/1 are spoken to nobody."""
        self._unset_keepalive_if_required()
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.cycle.keep_alive = False
        except httptools.HttpParserError:
            self._refuse(Malformed("this is not HTTP/1.1, or could be read in two ways, or its head is too long"))
        else:
            if self._framing_bytes > self._limits.head_bytes:
                self._refuse(Malformed(f"a head may have {self._limits.head_bytes} bytes"))

    def on_message_begin(self) -> None:
        """Called by the parser."""
        super().on_message_begin()
        cast("dict[str, object]", self.scope)[HANG_UP] = self._hang_up
        self._in_head = True
        self._head_bytes = self._framing_bytes = 0

    def on_url(self, url: bytes) -> None:
        """Called by the parser."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser, also for trailers, which are no headers: they come after it was looked who asks."""
        if not self._in_head:
            return
        self._count(len(name) + len(value))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        head_rules.check_head(self.url, self.parser.get_http_version(), self.headers)
        self._in_head = False
        self._await_nothing()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._framing_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        super().on_message_complete()
        self._in_head, self._framing_bytes = True, 0

    def on_response_complete(self) -> None:
        """The next head must come in time, and what is left of a body with it."""
        super().on_response_complete()
        if self.idle and not self.transport.is_closing():
            self._await_head()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._limits.head_bytes:
            raise ValueError("the head is too long")

    def _await_head(self) -> None:
        self._await_nothing()
        self.since = self.loop.time()
        self._deadline = self.loop.call_later(self._limits.head_s, self._end)

    def _await_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _end(self) -> None:
        """Closes; what was answered may still be read, though not for ever."""
        self.transport.close()
        self._deadline = self.loop.call_later(REQUEST_S, self.transport.abort)

    def _hang_up(self) -> None:
        """At once, with all that was not taken."""
        if self._running is not None:
            self._running.disconnected = True
        self.transport.abort()

    def _take_place_of(self, idle: list[AdminConnection]) -> None:
        if idle:
            min(idle, key=lambda each: each.since).transport.abort()
        else:
            self._refuse(Full(f"{self._limits.connections} ask already"))

    def _refuse(self, error: PexdockError) -> None:
        """Says so and closes, if that cannot be taken for the answer to something else."""
        if self._running is not None and not self.idle:
            if self.pipeline and self.cycle.more_body:  # it waits for others, and never will be whole
                self.pipeline.popleft()
                self.cycle = self.pipeline[0][0] if self.pipeline else self._running
            if not self.cycle.more_body:  # the answers to what came before are not lost
                self.cycle.keep_alive = False
                self.flow.pause_reading()
                return
        if self._in_head or not self.cycle.response_started:
            self._write(error)
        self._end()
        if self._running is not None:
            self._running.disconnected = True
            self._running.message_event.set()

    def _write(self, error: PexdockError) -> None:
        response = problem_response(error)
        response.headers["connection"] = "close"
        lines = [name + b": " + value + b"\r\n" for name, value in response.raw_headers]
        self.transport.write(b"".join([STATUS_LINE[response.status_code], *lines, b"\r\n", bytes(response.body)]))
