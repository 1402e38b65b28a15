"""The fast path: predictions answered by the connection itself, without a task, a future or a scope for each of them.

A subclass of uvicorn's protocol takes a request as soon as its body is whole, if it is a plain one: POST to an endpoint whose requests
share batches, a body of known length, nothing to negotiate. Everything else goes to the ASGI application, as if this file
did not exist, and gets the same answers.

On one connection both ways never overlap: while an ASGI task has something to answer all that follows goes there too, and an ASGI task
begins only when all before it is answered.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httptools

from base.errors import Full, Malformed, PexdockError, TooLarge
from runtime.front.app.head_cache import CachedHead
from runtime.front.app.service import InferenceService
from runtime.front.http.asgi_protocol import AsgiProtocol, ReadFlowControl
from runtime.front.http.body_reader import BodyReader, IncomingRequest
from runtime.front.http.sweeper import Sweeper
from runtime.front.http.upgrade import without_offers
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.problems import problem
from runtime.front.requests.response import HttpResponse, ResponseSerializer
from runtime.front.requests.target import RequestHead
from runtime.http import head_rules

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

PIPELINED_MAX = 32
"""Requests of one connection that may be on their way. Beyond it nothing is read, so that one connection cannot fill a queue."""

HALF_CLOSED_S = 1.0
"""Whoever hangs up and whoever merely has nothing more to say look alike: both get so much time for an answer."""


class HttpConnection(AsgiProtocol):
    """One connection of a client.

    Args:
        service: Answers requests.
        heads, sweeper: shared by all connections.
    """

    def __init__(
        self,
        service: InferenceService,
        heads: ResponseSerializer,
        sweeper: Sweeper,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(heads, sweeper.unread, config, server_state, app_state, _loop)
        # Without uvicorn's leniency: what follows "Connection: close" is an error then, and not a request.
        self.parser = httptools.HttpRequestParser(self)
        self._service, self._sweeper = service, sweeper
        self._find_head = service.heads.find
        self._incoming: IncomingRequest | None = None
        self._framing_bytes = 0  # that came since the last byte of a body, or since the last request was whole
        self._ending = False  # no other request is taken any more
        self._closing = False  # the server ends: the request that is being read is the last
        self._whole: IncomingRequest | None = None  # what the parser has seen the end of
        self._skipping = False  # the request that is being read is none of those that were taken
        self._last: HttpResponse | None = None  # what is said after all others have been answered
        self._half_closed: asyncio.TimerHandle | None = None

    # ---- events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self.flow = ReadFlowControl(transport, self.loop, self._read_on)
        self._sweeper.watch(self.connections)  # type: ignore[arg-type]  # all are of this class
        sock = transport.get_extra_info("socket")
        if not self._sweeper.admits(self.connections, -1 if sock is None else sock.fileno()):  # type: ignore[arg-type]
            self._ending = True
            self._write_last(problem(Full("as many connections are open as may be; try again later"), next(self._service.ids)))

    def data_received(self, data: bytes) -> None:
        """Takes the requests that are whole with this; what is too many for now is read later."""
        self._still, self._heard = 0, self._heard + len(data)
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if self.flow.unread:
            self.flow.unread += data
            return
        if not (self._begun or self._ending or self._closing or self._slow_is_open()):
            data = self._take_known(data)
        while data:
            if not self._may_read():
                self.flow.pause_reading()
                self.flow.unread = data
                return
            length = _SLICE_BYTES if self._incoming is None else max(_SLICE_BYTES, self._incoming.missing)
            self._feed(data[:length])
            data = data[length:]
        if self._incoming is not None and self._incoming.body_buffer is not None:
            self._receive(self._incoming.body_buffer)

    def _take_known(self, data: bytes) -> bytes:
        """Takes the requests at its beginning whose heads were seen before. Returns what is left."""
        start = 0
        while len(self._responses) < PIPELINED_MAX:
            at = data.find(b"\r\n\r\n", start) + 4
            known = self._find_head(data[start:at])
            if known is None or len(data) < (end := at + known.body_bytes):
                break
            self._messages += 1
            self._take(known.head, data[at:end])
            start = end
            if start == len(data):
                return b""
        return data[start:]

    def _feed(self, data: bytes) -> None:
        """Lets the parser read it, at whose beginning a request may begin or go on."""
        number = -1 if self._begun else self._messages + 1
        self._whole = None
        self._framing_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._decline_upgrade(data[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            if not isinstance(exc.__context__, head_rules.InvalidHead | httptools.HttpParserInvalidURLError | UnicodeDecodeError):
                raise  # ours, and the loop closes the connection
            self._refuse(Malformed(str(exc.__context__) if isinstance(exc.__context__, head_rules.InvalidHead) else _NOT_HTTP))
        except httptools.HttpParserError:
            self._refuse(Malformed(_NOT_HTTP))
        else:
            if self._framing_bytes > head_rules.HEAD_MAX_BYTES:
                self._refuse(TooLarge(f"the head of a request may have {head_rules.HEAD_MAX_BYTES} bytes"))
            whole, self._whole = self._whole, None  # a known head follows maybe, and for hours: no release is held by what came before
            self._learn(data, whole if self._messages == number else None)

    def _learn(self, data: bytes, whole: IncomingRequest | None) -> None:
        """`data` is one whole request, and its head what comes before the body.

        Only if nothing comes behind the body, not even an empty line; then the end of the head is the first thing that looks like one.
        """
        if whole is None or not whole.keep_alive:
            return
        head = data[: len(data) - whole.body_bytes]
        if head.find(b"\r\n\r\n") == len(head) - 4:
            self._service.heads.learn(head, CachedHead(whole.head, whole.body_bytes))

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client will say no more. What it has asked for is answered if that takes no longer than `HALF_CLOSED_S`."""
        self._ending = True
        self._drop_arriving()
        if not self._drop_incomplete() or not (self._responses or self._slow_is_open()) or self.scheme == "https":
            return False  # the transport closes itself; one of TLS does in any case
        if self._slow_is_open():
            self.cycle.keep_alive = False
        self._half_closed = self.loop.call_later(HALF_CLOSED_S, self.transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits for the answers any more."""
        super().connection_lost(exc)
        if self._half_closed is not None:
            self._half_closed.cancel()
        self._drop_arriving()
        for request in self._responses.drop():
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
        elif self._responses or self._begun:
            self._ending = not self._begun
            self._closing = True
        else:
            self.transport.close()

    def take_last(self) -> None:
        """The server ends soon: one more request is taken where none is there, and answered with the word that it was the last one."""
        if self._responses or self._begun:
            self.shutdown()
        elif self._slow_is_open() and not self.cycle.response_started:
            self.cycle.keep_alive = False
        self._closing = True

    # ---- events of the parser

    def on_message_begin(self) -> None:
        """A request; most never need what uvicorn prepares for one."""
        self.url = b""
        self.headers = []
        self._begun = self._in_head = not self._ending
        self._head_sweeps = 0
        self._messages += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        """One of its headers; what comes behind the body is none (RFC 9110, 6.5.1)."""
        if self._in_head:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Here the ways part.

        Raises:
            InvalidHead: to the parser, which takes nothing more then.
        """
        self._in_head = False
        if not self._ending:
            head_rules.check_head(self.url, self.parser.get_http_version(), self.headers)
        self._skipping = self._ending or self.parser.should_upgrade()
        if not self._skipping:
            self._incoming = self._plain()
            if self._incoming is None:
                self._go_slow(last=self._closing)

    def on_body(self, body: bytes) -> None:
        """A piece of its body."""
        self._framing_bytes = 0
        if self._incoming is not None:
            self._incoming.add(body)
        elif not self._skipping:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """It is whole."""
        self._begun = False
        self._framing_bytes = 0
        arriving, self._incoming = self._incoming, None
        if arriving is not None:
            self._ending = self._closing or not arriving.keep_alive
            self._whole = arriving
            self._take(arriving.head, arriving.whole())
        elif not self._skipping:
            super().on_message_complete()

    # ---- requests

    def _plain(self) -> IncomingRequest | None:
        """Returns the request, if the fast path is for it."""
        parser = self.parser
        if parser.get_method() != b"POST" or self._slow_is_open():
            return None
        found = self._service.read_plain_head(self.url, self.headers)
        if found is None:
            return None
        keep_alive = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        return IncomingRequest(found.head, found.body_bytes, found.body_buffer, keep_alive=keep_alive)

    def _name(self, asked: RequestHead) -> str:  # noqa: ARG002 - for those who log what was asked
        return next(self._service.ids)

    def _receive(self, arrival: BodyBuffer) -> None:
        """Reads the rest of a large body past the parser, which begins anew with what follows."""

        def whole() -> None:
            self.parser = httptools.HttpRequestParser(self)
            self.on_message_complete()
            self._resume_reading()

        self.transport.set_protocol(BodyReader(self, arrival, whole))

    def _drop_arriving(self) -> None:
        arriving, self._incoming, self._begun, self._in_head = self._incoming, None, False, False
        if arriving is not None:
            arriving.drop()

    def _take(self, asked: RequestHead, body: bytes | BodyBuffer) -> None:
        request_id = self._name(asked)
        self._responses.begin(request_id)
        request = self._service.submit(asked, request_id, body, self._answered)
        if request is not None:
            self._responses.attach(request_id, request)
        if len(self._responses) >= PIPELINED_MAX:
            self.flow.pause_reading()

    def _answered(self, answer: HttpResponse) -> None:
        due = self._responses.answered(answer.id, answer)
        if not due or self.transport.is_closing():
            return
        ends = self._ending and self._last is None and not (self._responses or self._begun or self.pipeline)
        for one in due[:-1] if ends else due:
            self._write(one)
        if ends:
            self._write_last(due[-1])
        elif not self._responses and (self._last is not None or self.pipeline):
            self._go_on()
        else:
            self._resume_reading()

    def _go_on(self) -> None:
        """All that the fast path had to answer is answered, and something else was waiting for that."""
        if self._last is not None:
            self._write_last(self._last)
        else:
            self._start_asgi_task(*self.pipeline.pop())

    # ---- what is no request

    def _decline_upgrade(self, rest: bytes) -> None:
        """Reads a request again without its offer of another protocol, at which the parser stops: there is none but this here."""
        method = self.parser.get_method()
        if method == b"CONNECT":
            self._refuse(Malformed(_NOT_HTTP))
        elif not self._ending:
            self._framing_bytes = 0
            self._feed(without_offers(method, self.url, self.headers) + rest)

    def _refuse(self, error: PexdockError) -> None:
        """What came is no request, or nothing that may come after the last one. Nothing more is read."""
        self.parser = head_rules.IgnoringParser()  # type: ignore[assignment]  # whatever comes, nothing of it is kept
        self._drop_arriving()
        if self._ending:
            return
        self._ending = True
        if not self._drop_incomplete():
            self.transport.close()
        elif self._slow_is_open():
            self.cycle.keep_alive = False  # the connection ends with its answer
        else:
            self._last = problem(error, next(self._service.ids))
            if not self._responses:
                self._go_on()

    # ---- time and flow

    def _may_read(self) -> bool:
        if self._slow_is_open() and self.cycle.more_body:
            return self.cycle is self._running  # its task waits for the body
        return len(self._responses) < PIPELINED_MAX and not self.pipeline and not self.flow.write_paused

    def _resume_reading(self) -> None:
        if self.flow.read_paused and self._may_read():
            self.flow.resume_reading()

    def _read_on(self) -> None:
        """Reads what was too much."""
        unread, self.flow.unread = self.flow.unread, b""
        if unread and not self.transport.is_closing():
            self.data_received(unread)
            self._resume_reading()


_SLICE_BYTES = 8192
"""Read at once: some two hundred of the smallest requests, which may be so many more than `PIPELINED_MAX`."""

_NOT_HTTP = "what was sent is not an HTTP request"
