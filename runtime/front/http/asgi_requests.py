"""Passes requests of one connection to the ASGI application, by means of uvicorn's protocol."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.front.app.slow_bodies import DecodingRequest
from runtime.front.app.table_bodies import DIRECT_READER
from runtime.front.http.body_reader import BodyConnection, BodyReader
from runtime.front.http.pipeline import ResponsePipeline
from runtime.front.http.response_writer import ResponseWriter
from runtime.front.http.timeouts import ConnectionTimeouts
from runtime.front.memory.table_body import TableBody
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.response import HttpResponse
from runtime.http.asgi_connection import AsgiConnection

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


class AsgiRequests(AsgiConnection):
    """Uvicorn's protocol for requests that our own reader has parsed.

    The task of a request starts only when the fast path has nothing to answer before it. Until then the request waits in uvicorn's own
    `pipeline`.

    Args:
        connection: The connection.
        writer: Writer of the connection, with its transport and flow control.
        responses: Responses of the fast path on this connection.
        timeouts: Time limits of the connection.

    Attributes:
        is_disk_busy: Whether such a body takes no more bytes for now.
    """

    def __init__(
        self,
        connection: BodyConnection,
        writer: ResponseWriter,
        responses: ResponsePipeline[InferenceRequest | DecodingRequest, HttpResponse],
        timeouts: ConnectionTimeouts,
        config: Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self.connections = set()  # the server knows the connection itself
        self.connection_made(writer.transport)
        self.flow = writer.flow
        self._writer = writer
        self._responses = responses
        self._timeouts = timeouts
        self._connection = connection
        self.is_disk_busy = False

    def begin(self, parser: Any, url: bytes, headers: list[tuple[bytes, bytes]], date: bytes, *, last: bool) -> None:
        """Takes a request whose head is complete. No other request follows if it is the `last`."""
        self.parser = parser
        self.on_message_begin()
        self.url = url
        for name, value in headers:
            self.on_header(name, value)
        self.server_state.default_headers = [(b"date", date)]
        self.on_headers_complete()
        self.cycle.scope[DIRECT_READER] = self._read_rest  # type: ignore[literal-required]  # an extension
        if last:
            self.cycle.keep_alive = False

    def _read_rest(self, body: TableBody) -> None:
        """Reads the rest of the running request's body straight into `body`, once nothing of it is left in memory."""
        if self.cycle is self.running and not (self.cycle.body or self._writer.flow.unread or self.transport.is_closing()):
            self.transport.set_protocol(BodyReader(self._connection, body, self._set_disk_busy))

    def _set_disk_busy(self, busy: bool) -> None:
        self.is_disk_busy = busy
        if busy:
            self.flow.pause_reading()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    def start_waiting(self) -> None:
        """Starts the first request that waits for the fast path."""
        self._start_asgi_task(*self.pipeline.pop())

    def on_response_complete(self) -> None:
        """Handles the end of a response, which may be the last before the final one."""
        super().on_response_complete()
        self._timeouts.idle_sweeps = 0
        if not self.is_open:
            self._writer.write_final()

    def drop_incomplete(self) -> bool:
        """Drops a request whose body will never be complete. Returns False if the connection must be closed for that."""
        if not self.is_open or not self.cycle.more_body:
            return True
        if self.pipeline:
            self.drop_latest_waiting()
            return True
        if self.cycle.response_started:
            return False
        self.disconnect_running()
        self.cycle = None  # type: ignore[assignment]  # as before the first
        return True

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._responses.requests:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            super()._start_asgi_task(cycle, app)
