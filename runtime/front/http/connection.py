"""A client's connection. The fast path answers predictions without a task, future or scope each; the ASGI application answers the rest.

On one connection the two never overlap. While the application has requests to answer, all later requests go to it too. It starts the task
of a request only when the fast path has answered all earlier requests.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from base.errors import Full, PexdockError
from runtime.front.app.service import InferenceService
from runtime.front.app.slow_bodies import DecodingRequest
from runtime.front.http.access_logging import ConnectionAccessLog
from runtime.front.http.asgi_requests import AsgiRequests
from runtime.front.http.body_reader import BodyReader
from runtime.front.http.connection_state import ENDING, IDLE, IN_HEAD, READING
from runtime.front.http.flow_control import ReadFlowControl
from runtime.front.http.pipeline import ResponsePipeline
from runtime.front.http.request_reader import RequestReader, RequestSink
from runtime.front.http.response_writer import ResponseSerializer, ResponseWriter
from runtime.front.http.sweeper import Sweeper
from runtime.front.http.timeouts import ConnectionTimeouts, TimeLimits
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.problems import problem_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.telemetry.access_log import AccessLog
from runtime.http.lingering import LingeringTransport, has_unread_data

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn.server import ServerState

PIPELINED_MAX = 32
"""Limit of open requests on one connection. At the limit reading stops, so that one connection cannot fill a queue."""

HALF_CLOSED_S = 1.0
"""Time limit for responses after the client's end of data, in seconds. A client that hung up and one that only has nothing more to send
cannot be told apart."""

_SLICE_BYTES = 8192
"""Number of bytes parsed at a time: about two hundred of the smallest requests, by which PIPELINED_MAX may be exceeded."""


@dataclass(frozen=True)
class ConnectionContext:
    """The objects that all connections of a server share.

    Attributes:
        service: Answers requests of the fast path.
        sweeper: Limits the number of connections and their time.
        serializer: Makes heads of responses.
        access_log: Gets a line for each request; None if access logs are disabled.
        config: Holds the ASGI application.
        server_state: Holds all connections.
    """

    service: InferenceService
    sweeper: Sweeper
    serializer: ResponseSerializer
    access_log: AccessLog | None
    config: Config
    server_state: ServerState


class HttpConnection(RequestSink):
    """One connection of a client: ties its reader, its writer, its time limits and the ASGI application together."""

    transport: asyncio.Transport
    flow: ReadFlowControl
    _writer: ResponseWriter

    def __init__(self, context: ConnectionContext) -> None:
        self._context = context
        self._service = context.service
        self.asgi: AsgiRequests | None = None
        self._reader = RequestReader(self, context.service)
        self._responses: ResponsePipeline[InferenceRequest | DecodingRequest, HttpResponse] = ResponsePipeline()
        self._timeouts = ConnectionTimeouts()
        self._half_closed: asyncio.TimerHandle | None = None
        self._access: ConnectionAccessLog | None = None

    # ---- events of the transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Handles a new client. Refuses it if there are too many connections."""
        context = self._context
        self._lingering = LingeringTransport(transport, self)
        self.transport = transport = cast("asyncio.Transport", self._lingering)
        self.flow = ReadFlowControl(transport, asyncio.get_running_loop(), self._read_unread)
        self._writer = ResponseWriter(transport, self.flow, context.serializer, context.sweeper.write_limit)
        if context.access_log is not None:
            self._access = ConnectionAccessLog(context.access_log, transport)
        connections: set[Any] = context.server_state.connections
        connections.add(self)
        context.sweeper.watch(connections)
        sock = transport.get_extra_info("socket")
        fd = -1 if sock is None else sock.fileno()
        if not context.sweeper.admits(connections, fd):
            if not context.sweeper.spares(fd):
                self._lingering.linger_no_more()
            self._reader.stop()
            self._writer.write_last(
                problem_response(Full("as many connections are open as may be; try again later"), next(self._service.ids))
            )

    def data_received(self, data: bytes) -> None:
        """Handles received bytes. Takes the requests that they complete; bytes beyond the limit of open requests are parsed later."""
        timeouts, flow, reader, asgi = self._timeouts, self.flow, self._reader, self.asgi
        timeouts.idle_sweeps = 0
        timeouts.received_bytes += len(data)
        if flow.unread:
            flow.unread += data
            return
        if reader.state is IDLE and (asgi is None or not asgi.is_open):
            data = self._take_known(data)
        while data:
            if not self._may_read():
                flow.pause_reading()
                flow.unread = data
                return
            length = _SLICE_BYTES if reader.incoming is None else max(_SLICE_BYTES, reader.incoming.missing_bytes)
            reader.feed(data[:length])
            data = data[length:]
        if reader.incoming is not None and reader.incoming.body_buffer is not None:
            self.transport.set_protocol(BodyReader(self, reader.incoming.body_buffer))

    def eof_received(self) -> bool:
        """Handles the end of the client's data. Complete requests are answered if that takes no longer than HALF_CLOSED_S."""
        self._reader.stop()
        asgi = self.asgi
        asgi_dropped, asgi_open = (True, False) if asgi is None else (asgi.drop_incomplete(), asgi.is_open)
        is_tls = self.transport.get_extra_info("sslcontext") is not None
        if not asgi_dropped or not (self._responses.requests or asgi_open) or is_tls:
            return False  # the transport closes itself; one of TLS does in any case
        if asgi is not None and asgi_open and self._writer.final is None:
            asgi.cycle.keep_alive = False
        self._lingering.linger_no_more()
        self._half_closed = asyncio.get_running_loop().call_later(HALF_CLOSED_S, self.transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection, and abandons its open requests."""
        self._context.server_state.connections.discard(self)
        if self.asgi is not None:
            self.asgi.connection_lost(exc)
        self.flow.unread = b""
        self._writer.forget()
        if self._half_closed is not None:
            self._half_closed.cancel()
        self._reader.close()
        for request in self._responses.drop():
            request.abandon()
        if self._access is not None:
            self._access.close()

    def pause_writing(self) -> None:
        """Handles a client that does not read its responses, and stops reading its requests."""
        self._writer.pause()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """Handles a client that reads again."""
        self._writer.resume()
        self._timeouts.on_read_buffer_empty()
        self._resume_reading()

    def on_body_bytes(self, size: int) -> None:
        """Handles bytes of a body that bypassed the parser."""
        self._timeouts.idle_sweeps = 0
        self._timeouts.received_bytes += size

    # ---- calls of the server

    def shutdown(self) -> None:
        """Closes the connection once the requests that have begun to arrive are answered, even if they are still in the socket."""
        if self.asgi is not None and self.asgi.is_open:
            self.asgi.shutdown()
        elif self._reader.state in READING:
            self._reader.drain()
        elif self._responses.requests:
            self._reader.stop()
        elif self._reader.state is not ENDING and not self.transport.is_closing() and has_unread_data(self.transport):
            self._reader.drain()
        else:
            self.transport.close()

    def take_last_request(self) -> None:
        """Takes one more request if none is open, and announces the end of the connection with its response, before the server stops."""
        if self._responses.requests or self._reader.state in READING:
            self.shutdown()
        elif self.asgi is not None and self.asgi.is_open and not self.asgi.cycle.response_started:
            self.asgi.cycle.keep_alive = False
        self._reader.drain()

    def sweep(self, limits: TimeLimits) -> None:
        """Closes the connection if its client sends or reads too slowly, or has been idle for too long."""
        timeouts, reader, asgi = self._timeouts, self._reader, self.asgi
        unsent_bytes = self.transport.get_write_buffer_size()
        if timeouts.reads_too_slowly(unsent_bytes, limits, write_paused=self.flow.write_paused):
            self.transport.abort()
        elif self._responses.requests or self.flow.read_paused or (asgi is not None and asgi.is_open and not asgi.cycle.more_body):
            timeouts.on_server_busy()
        elif reader.state in READING:
            if timeouts.sends_too_slowly(reader.messages, limits, in_head=reader.state in IN_HEAD):
                self.transport.close()
        # A request that has just come is answered. One that comes later is read and dropped, and never reset.
        elif timeouts.is_idle_too_long(reader.messages, limits) and not has_unread_data(self.transport):
            self.transport.close()

    # ---- requests

    def submit(self, head: RequestHead, body: bytes | BodyBuffer) -> None:
        """Submits a request of the fast path. Its response may come before this returns."""
        request_id = next(self._service.ids)
        if self._access is not None:
            self._access.begin(request_id, head.target.path)
        open_requests = self._responses.requests
        open_requests[request_id] = None
        request = self._service.submit(head, request_id, body, self._on_response)
        if request_id in open_requests:
            open_requests[request_id] = request
            if len(open_requests) >= PIPELINED_MAX:
                self.flow.pause_reading()

    def begin_asgi(self, parser: Any, url: bytes, headers: list[tuple[bytes, bytes]], *, last: bool) -> None:
        """Gives a request whose head is complete to the ASGI application. No other request follows if it is the `last`."""
        context = self._context
        if self.asgi is None:
            timeouts = self._timeouts
            self.asgi = AsgiRequests(self, self._writer, self._responses, timeouts, context.config, context.server_state)
        self.asgi.begin(parser, url, headers, context.serializer.date, last=last)

    def on_refused(self, error: PexdockError, *, head_only: bool) -> None:
        """Responds with the error of an invalid request, after all earlier requests are answered. To HEAD, it sends only the head."""
        asgi = self.asgi
        if asgi is not None and not asgi.drop_incomplete():
            self.transport.close()
            return
        self._writer.final = problem_response(error, next(self._service.ids)), head_only
        if not self._responses.requests and (asgi is None or not asgi.is_open):
            self._writer.write_final()

    def _take_known(self, data: bytes) -> bytes:
        """Takes the requests at the beginning of `data` whose heads are in the cache. Returns the rest of the data."""
        service, open_requests, start = self._service, self._responses.requests, 0
        while len(open_requests) < PIPELINED_MAX:
            at = data.find(b"\r\n\r\n", start) + 4
            known = service.heads.get(data[start:at])
            if known is None or len(data) < (end := at + known.body_bytes):
                break
            self._reader.messages += 1
            self.submit(known.head, data[at:end])
            start = end
            if start == len(data):
                return b""
        return data[start:]

    def on_body_whole(self) -> None:
        """Handles the end of a body that bypassed the parser."""
        self._reader.finish_buffer()
        self._resume_reading()

    def _on_response(self, response: HttpResponse) -> None:
        due = self._responses.respond(response.id, response)
        self._timeouts.idle_sweeps = 0
        if due and not self.transport.is_closing():
            idle, asgi = not self._responses.requests, self.asgi
            waiting = asgi is not None and asgi.pipeline
            last = idle and not waiting and self._writer.final is None and self._reader.state is ENDING
            for each in due[:-1] if last else due:
                self._writer.write(each)
            if last:
                self._writer.write_last(due[-1])
            elif idle and waiting and asgi is not None:
                asgi.start_waiting()
            elif idle and self._writer.final is not None:
                self._writer.write_final()
            elif self.flow.read_paused:
                self._resume_reading()
        if self._access is not None:
            self._access.end(response)

    # ---- flow

    def _may_read(self) -> bool:
        asgi = self.asgi
        if asgi is not None and asgi.is_open:
            if asgi.cycle.more_body:
                return asgi.cycle is asgi.running and not asgi.is_disk_busy  # its task waits for the body
            if asgi.pipeline:
                return False
        return len(self._responses.requests) < PIPELINED_MAX and not self.flow.write_paused

    def _resume_reading(self) -> None:
        if self.flow.read_paused and self._may_read():
            self.flow.resume_reading()

    def _read_unread(self) -> None:
        """Parses bytes that were read earlier, beyond the limit of open requests."""
        unread, self.flow.unread = self.flow.unread, b""
        if unread and not self.transport.is_closing():
            self.data_received(unread)
            self._resume_reading()
