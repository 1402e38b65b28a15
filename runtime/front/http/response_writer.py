"""Writes responses to one connection, and watches how much of them waits for its client."""

from __future__ import annotations

import asyncio

from runtime.front.http.asgi_requests import ReadFlowControl
from runtime.front.http.write_buffers import WriteBufferLimit
from runtime.front.requests.response import HttpResponse, ResponseSerializer

_JOINED_MAX_BYTES = 64 * 1024
"""Up to this size one copy is cheaper than a system call with two pieces."""


class ResponseWriter:
    """Writes the responses of the fast path.

    Args:
        transport: The connection's.
        flow: The connection's.
        serializer: Shared by all connections.
        limit: Shared by all connections.
    """

    __slots__ = ("_flow", "_limit", "_serializer", "_transport")

    def __init__(
        self, transport: asyncio.Transport, flow: ReadFlowControl, serializer: ResponseSerializer, limit: WriteBufferLimit
    ) -> None:
        self._transport = transport
        self._flow = flow
        self._serializer = serializer
        self._limit = limit

    def write(self, response: HttpResponse) -> None:
        """Writes a response after which the connection goes on."""
        if len(response.body) <= _JOINED_MAX_BYTES:
            self._transport.write(self._serializer.whole(response))
        else:
            self._transport.writelines([self._serializer.head(response, close=False), response.body])
        if self._flow.write_paused:
            self._limit.set_waiting(self, self._transport.get_write_buffer_size())

    def write_last(self, response: HttpResponse) -> None:
        """Writes a response, which says that it is the last one, and closes the connection."""
        self._transport.writelines([self._serializer.head(response, close=True), response.body])
        self._transport.close()

    def pause(self) -> None:
        """Handles a client that does not read its responses as fast as they are written."""
        self._flow.pause_writing()
        self._limit.set_waiting(self, self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """Handles a client that has read most of what waited for it."""
        self._flow.resume_writing()
        self._limit.forget(self)

    def forget(self) -> None:
        """Handles the end of the connection."""
        self._limit.forget(self)

    def abort(self) -> None:
        """Closes the connection at once, and drops what waits for its client."""
        self._transport.abort()
