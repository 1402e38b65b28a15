"""The fast path: predictions answered by the connection itself, without a task, a future or a scope for each of them.

A subclass of uvicorn's protocol takes a request as soon as its body is whole, if it is a plain one: POST to an endpoint whose requests
share batches, a body of known and moderate length, nothing to negotiate. Everything else goes to the ASGI application, as if this file
did not exist, and gets the same answers.

On one connection both ways never overlap: while an ASGI task has something to answer all that follows goes there too, and an ASGI task
begins only when all before it is answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import httptools
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from base.errors import Malformed, PexdockError
from runtime.front.answer import Answer, Heads
from runtime.front.app import Asked
from runtime.front.deadlines import Expiring
from runtime.front.problems import problem
from runtime.front.turns import Turns

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState

    from runtime.front.app import FrontDoor
    from runtime.front.request import Request, Target

BODY_MAX_BYTES = 1024 * 1024
"""Larger bodies go to the ASGI application: what a task costs does not matter to them."""

PIPELINED_MAX = 32
"""Requests of one connection that may be on their way. Beyond it nothing is read, so that one connection cannot fill a queue."""

IDLE_S = 5.0
"""A connection without a request is closed after it; uvicorn's own value for the other path."""

HALF_CLOSED_S = 1.0
"""Whoever hangs up and whoever merely has nothing more to say look alike: both get so much time for an answer."""


class Waits:
    """Connections for which something must come to pass in time."""

    def __init__(self, arrival_s: float) -> None:
        self.idle: Expiring[Connection] = Expiring(IDLE_S, Connection.expire)
        self.arriving: Expiring[Connection] = Expiring(arrival_s, Connection.expire)
        """A request of which nothing more has come for as long as an answer may take."""


class _Arriving:
    """A request of the fast path whose body is not yet whole."""

    __slots__ = ("accept", "body", "content_type", "keep_alive", "missing", "target")

    def __init__(self, target: Target, content_type: bytes, accept: bytes, missing: int, *, keep_alive: bool) -> None:
        self.target = target
        self.content_type = content_type
        self.accept = accept
        self.keep_alive = keep_alive
        self.missing = missing
        self.body: list[bytes] = []


class _Flow(FlowControl):
    """Whether a connection is read; with what was read already, and is read on before anything that comes later.

    Args:
        read_on: takes `unread`.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, read_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._loop = loop
        self._read_on = read_on
        self.unread = b""

    def resume_reading(self) -> None:
        """Not at once where something is unread: this may be called while something is parsed."""
        if self.unread:
            self._loop.call_soon(self._read_on)
        else:
            super().resume_reading()


class Connection(HttpToolsProtocol):
    """One connection of a client.

    Args:
        door: answers.
        heads, waits: shared by all connections.
    """

    def __init__(
        self,
        door: FrontDoor,
        heads: Heads,
        waits: Waits,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # Without uvicorn's leniency: what follows "Connection: close" is an error then, and not a request.
        self.parser = httptools.HttpRequestParser(self)
        self._door, self._heads, self._waits = door, heads, waits
        self._watched: Expiring[Connection] | None = None
        self._turns: Turns[Request, Answer] = Turns()
        self._arriving: _Arriving | None = None
        self._begun = False  # a request is there that is not whole
        self._ending = False  # no other request is taken any more
        self._closing = False  # the server ends: the request that is being read is the last
        self._skipping = False  # the request that is being read is none of those that were taken
        self._last: Answer | None = None  # what is said after all others have been answered
        self._running: RequestResponseCycle | None = None  # of the ASGI application
        self._half_closed: asyncio.TimerHandle | None = None

        self.flow: _Flow

    # ---- events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.flow = _Flow(transport, self.loop, self._read_on)
        self._watch(self._waits.arriving)

    def data_received(self, data: bytes) -> None:
        """Takes the requests that are whole with this; what is too many for now is read later."""
        self._unwatch()
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        while data:
            length = _SLICE_BYTES if self._arriving is None else max(_SLICE_BYTES, self._arriving.missing)
            self._feed(data[:length])
            data = data[length:]
            if data and not self._may_read():
                self.flow.pause_reading()
                self.flow.unread = data
                return
        if self._begun and not self.transport.is_closing():
            self._watch(self._waits.arriving)

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._decline_upgrade(data[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            if not isinstance(exc.__context__, httptools.HttpParserInvalidURLError | UnicodeDecodeError):
                raise  # ours, and the loop closes the connection
            self._malformed()
        except httptools.HttpParserError:
            self._malformed()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client will say no more. What it has asked for is answered if that takes no longer than `HALF_CLOSED_S`."""
        self._ending = True
        self._arriving, self._begun = None, False
        if not self._drop_incomplete() or not (self._turns or self._slow_is_open()):
            return False  # the transport closes itself
        if self._slow_is_open():
            self.cycle.keep_alive = False
        self._half_closed = self.loop.call_later(HALF_CLOSED_S, self.transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answers any more."""
        super().connection_lost(exc)
        self._unwatch()
        if self._half_closed is not None:
            self._half_closed.cancel()
        self._arriving, self.flow.unread = None, b""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:  # uvicorn tells the latest only
            self._running.disconnected = True
            self._running.message_event.set()
        for request in self._turns.drop():
            request.endpoint.abandon(request)

    def pause_writing(self) -> None:
        """The client does not read its answers, so no more requests of it are read."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._resume_reading()

    def shutdown(self) -> None:
        """The server ends: what has begun to come is still answered."""
        if self._slow_is_open():
            super().shutdown()
        elif self._turns or self._begun:
            self._ending = not self._begun
            self._closing = True
        else:
            self.transport.close()

    def expire(self) -> None:
        """Nothing has come for too long."""
        self._watched = None
        if not self.transport.is_closing():
            self.transport.close()

    # ---- events of the parser

    def on_message_begin(self) -> None:
        """A request; most never need what uvicorn prepares for one."""
        self.url = b""
        self.headers = []
        self._begun = not self._ending

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Here the ways part."""
        self._skipping = self._ending or self.parser.should_upgrade()
        if not self._skipping:
            self._arriving = self._plain()
            if self._arriving is None:
                self._go_slow()

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        if self._arriving is not None:
            self._arriving.body.append(body)
            self._arriving.missing -= len(body)
        elif not self._skipping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self._begun = False
        arriving, self._arriving = self._arriving, None
        if arriving is not None:
            self._ending = self._closing or not arriving.keep_alive
            self._take(arriving)
        elif not self._skipping:
            super().on_message_complete()

    # ---- requests

    def _plain(self) -> _Arriving | None:
        """What is needed of the request's head, if this is the way for it."""
        parser = self.parser
        if parser.get_method() != b"POST" or self._slow_is_open():
            return None
        target = self._door.plain_target(self.url)
        if target is None:
            return None
        length = content_type = accept = b""
        for name, value in self.headers:
            if name == b"content-length":
                length = value
            elif name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = value
            elif name in _DECLINED:
                return None
        if not length.isdigit() or int(length) > BODY_MAX_BYTES:
            return None
        keep_alive = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        return _Arriving(target, content_type, accept, int(length), keep_alive=keep_alive)

    def _take(self, arriving: _Arriving) -> None:
        body = arriving.body[0] if len(arriving.body) == 1 else b"".join(arriving.body)
        content_type, accept = arriving.content_type.decode("latin-1"), arriving.accept.decode("latin-1")
        asked = Asked(arriving.target, content_type, accept, next(self._door.ids))
        try:
            request = self._door.request(asked, body, self._answered)
        except PexdockError as exc:
            self._turns.begin(asked.id, None)
            self._answered(self._door.refusal(exc, asked.id, asked.target))
            return
        self._turns.begin(asked.id, request)
        if len(self._turns) >= PIPELINED_MAX:
            self.flow.pause_reading()
        self._door.start(request)

    def _answered(self, answer: Answer) -> None:
        due = self._turns.answered(answer.id, answer)
        if not due or self.transport.is_closing():
            return
        ends = self._ends() and self._last is None
        for one in due[:-1]:
            self._write(one, close=False)
        self._write(due[-1], close=ends)
        if ends:
            self.transport.close()
        elif not self._turns:
            self._rest()
        else:
            self._resume_reading()

    def _write(self, answer: Answer, *, close: bool) -> None:
        head = self._heads.head(answer, close=close)
        if len(answer.body) <= _JOINED_MAX_BYTES:
            self.transport.write(head + answer.body)
        else:
            self.transport.writelines([head, answer.body])

    def _ends(self) -> bool:
        """Whether nothing is left to do on this connection."""
        return self._ending and not (self._turns or self._begun or self.pipeline)

    def _rest(self) -> None:
        """All that the fast path had to answer is answered."""
        if self._last is not None:
            self._write(self._last, close=True)
            self.transport.close()
        elif self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._resume_reading()
            if not self._begun:
                self._watch(self._waits.idle)

    # ---- the other path

    def _slow_is_open(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # it begins as None

    def _go_slow(self) -> None:
        """Gives the request to uvicorn's own protocol, from its head on."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        self.server_state.default_headers = [(b"date", self._heads.date)]
        super().on_headers_complete()
        if self._closing:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._turns:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

    def _decline_upgrade(self, rest: bytes) -> None:
        """Reads a request again without its offer of another protocol, at which the parser stops: there is none but this here."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._malformed()
        elif not self._ending:
            kept = [each for each in self.headers if each[0] not in _OFFERS]
            if any(b"close" in value.lower() for name, value in self.headers if name == b"connection"):
                kept.append((b"connection", b"close"))
            lines = [b"%b %b HTTP/1.1" % (method, self.url), *(b"%b: %b" % each for each in kept), b"", b""]
            self._feed(b"\r\n".join(lines) + rest)

    def _malformed(self) -> None:
        """What came is not HTTP, or nothing that may come after the last request. Nothing more is read."""
        self._arriving, self._begun = None, False
        if self._ending:
            return
        self._ending = True
        if not self._drop_incomplete():
            self.transport.close()
        elif self._slow_is_open():
            self.cycle.keep_alive = False  # the connection ends with its answer
        else:
            self._last = problem(Malformed("what was sent is not an HTTP request"), next(self._door.ids))
            if not self._turns:
                self._rest()

    def _drop_incomplete(self) -> bool:
        """Forgets a request of the other path whose body will never be whole; False where that cannot be done without its connection."""
        if not self._slow_is_open() or not self.cycle.more_body:
            return True
        if self._turns and len(self.pipeline) == 1:
            self.pipeline.clear()
        elif self.pipeline or self.cycle.response_started:
            return False
        else:  # its task waits for the body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.cycle = None  # type: ignore[assignment]
        return True

    # ---- time and flow

    def _may_read(self) -> bool:
        if self._slow_is_open() and self.cycle.more_body:
            return self.cycle is self._running  # its task waits for the body
        return len(self._turns) < PIPELINED_MAX and not self.pipeline and not self.flow.write_paused

    def _resume_reading(self) -> None:
        if self.flow.read_paused and self._may_read():
            self.flow.resume_reading()

    def _read_on(self) -> None:
        """Reads what was too much."""
        unread, self.flow.unread = self.flow.unread, b""
        if unread and not self.transport.is_closing():
            self.data_received(unread)
            self._resume_reading()

    def _watch(self, waits: Expiring[Connection]) -> None:
        self._unwatch()
        self._watched = waits
        waits.watch(self, self.loop.time())

    def _unwatch(self) -> None:
        if self._watched is not None:
            self._watched.forget(self)
            self._watched = None


_SLICE_BYTES = 8192
"""Read at once: some two hundred of the smallest requests, which may be so many more than `PIPELINED_MAX`."""

_OFFERS = frozenset((b"connection", b"upgrade", b"http2-settings"))

_DECLINED = frozenset((b"transfer-encoding", b"expect"))
_JOINED_MAX_BYTES = 64 * 1024
"""Up to it one copy is cheaper than a system call with two pieces."""
