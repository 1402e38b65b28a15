"""Reads request bodies from a connection, large Arrow bodies straight into shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from runtime.front.memory.body_buffer import BodyBuffer

if TYPE_CHECKING:
    from runtime.front.http.connection import HttpConnection
    from runtime.front.requests.target import RequestHead


class IncomingRequest:
    """A request of the fast path whose body is not yet whole; a large one of Arrow goes to memory of its own."""

    __slots__ = ("body", "body_buffer", "body_bytes", "head", "keep_alive", "missing")

    def __init__(self, asked: RequestHead, body_bytes: int, arrival: BodyBuffer | None, *, keep_alive: bool) -> None:
        self.head = asked
        self.body_bytes = self.missing = body_bytes
        self.body_buffer = arrival
        self.keep_alive = keep_alive
        self.body: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """The next piece of the body."""
        self.missing -= len(piece)
        if self.body_buffer is None:
            self.body.append(piece)
        else:
            self.body_buffer.write(piece)

    def whole(self) -> bytes | BodyBuffer:
        """The body."""
        if self.body_buffer is not None:
            return self.body_buffer
        return self.body[0] if len(self.body) == 1 else b"".join(self.body)

    def drop(self) -> None:
        """It will never be whole."""
        if self.body_buffer is not None:
            self.body_buffer.close()


class BodyReader(asyncio.BufferedProtocol):
    """Reads the rest of a body from a connection's socket into its memory, and is the transport's protocol meanwhile.

    Args:
        connection: hears of all else that happens.
        whole: called when nothing is missing any more.
    """

    def __init__(self, connection: HttpConnection, arrival: BodyBuffer, whole: Callable[[], None]) -> None:
        self._connection = connection
        self._arrival = arrival
        self._whole = whole

    def get_buffer(self, _: int) -> memoryview:
        """Where the socket is read to."""
        return self._arrival.rest

    def buffer_updated(self, size: int) -> None:
        """So much was read."""
        self._arrival.came(size)
        self._connection.heard(size)
        if not self._arrival.missing:
            self._connection.transport.set_protocol(self._connection)
            self._whole()

    def eof_received(self) -> bool | None:
        """The body will never be whole."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nor will it now."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read the answers to what it asked before."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._connection.resume_writing()
