"""Passes requests of one connection to the ASGI application, by means of uvicorn's protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl

from runtime.front.http.pipeline import ResponsePipeline
from runtime.front.http.timeouts import ConnectionTimeouts
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.response import HttpResponse
from runtime.http.asgi_connection import AsgiConnection

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


class ReadFlowControl(FlowControl):
    """Pauses and resumes reading. Bytes that were already read are parsed before later bytes.

    Args:
        read_on: Parses `unread`.

    Attributes:
        unread: Bytes that were read but not parsed.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, read_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._loop = loop
        self._read_on = read_on
        self.unread = b""

    def resume_reading(self) -> None:
        """Resumes reading, but only once `unread` is parsed: this may be called while something is being parsed."""
        if self.unread:
            self._loop.call_soon(self._read_on)
        else:
            super().resume_reading()


class AsgiRequests(AsgiConnection):
    """Uvicorn's protocol for requests that our own reader has parsed.

    The task of a request starts only when the fast path has nothing to answer before it. Until then the request waits in uvicorn's own
    `pipeline`.

    Args:
        transport: Transport of the connection.
        flow: Flow control of the connection.
        responses: Responses of the fast path on this connection.
        timeouts: Time limits of the connection.
    """

    def __init__(
        self,
        transport: asyncio.Transport,
        flow: ReadFlowControl,
        responses: ResponsePipeline[InferenceRequest, HttpResponse],
        timeouts: ConnectionTimeouts,
        config: Config,
        server_state: ServerState,
    ) -> None:
        super().__init__(config, server_state, {}, asyncio.get_running_loop())
        self.connections = set()  # the server knows the connection itself
        self.connection_made(transport)
        self.flow = flow
        self._responses = responses
        self._timeouts = timeouts

    def begin(self, parser: Any, url: bytes, headers: list[tuple[bytes, bytes]], date: bytes, *, last: bool) -> None:
        """Takes a request whose head is complete. No other request follows if it is the `last`."""
        self.parser = parser
        self.on_message_begin()
        self.url = url
        for name, value in headers:
            self.on_header(name, value)
        self.server_state.default_headers = [(b"date", date)]
        self.on_headers_complete()
        if last:
            self.cycle.keep_alive = False

    def start_waiting(self) -> None:
        """Starts the first request that waits for the fast path."""
        self._start_asgi_task(*self.pipeline.pop())

    def on_response_complete(self) -> None:
        """Handles the end of a response."""
        super().on_response_complete()
        self._timeouts.idle_sweeps = 0

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
