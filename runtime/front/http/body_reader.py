"""Reads large Arrow bodies from a connection's socket straight into shared memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from runtime.front.memory.body_buffer import BodyBuffer


class BodyConnection(Protocol):
    """The connection that a body comes over."""

    transport: asyncio.Transport

    def on_body_bytes(self, size: int) -> None:
        """Handles bytes of a body that bypassed the parser."""

    def eof_received(self) -> bool:
        """Handles the end of the client's data."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection."""

    def pause_writing(self) -> None:
        """Handles a client that does not read its responses."""

    def resume_writing(self) -> None:
        """Handles a client that reads again."""


class BodyReader(asyncio.BufferedProtocol):
    """Reads the rest of a body into its memory. During that time it is the transport's protocol.

    Args:
        connection: Handles all other events, and becomes the transport's protocol again afterwards.
        buffer: Memory of the body.
        on_whole: Called when the body is complete.
    """

    def __init__(self, connection: BodyConnection, buffer: BodyBuffer, on_whole: Callable[[], None]) -> None:
        self._connection = connection
        self._buffer = buffer
        self._on_whole = on_whole

    def get_buffer(self, _: int) -> memoryview:
        """Returns the memory for the next bytes from the socket."""
        return self._buffer.unfilled

    def buffer_updated(self, size: int) -> None:
        """Handles bytes that were read."""
        self._buffer.advance(size)
        self._connection.on_body_bytes(size)
        if not self._buffer.missing_bytes:
            self._connection.transport.set_protocol(self._connection)  # type: ignore[arg-type]  # it is one
            self._on_whole()

    def eof_received(self) -> bool:
        """Handles the end of the client's data: the body will never be complete."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Handles the end of the connection."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """Handles a client that does not read the responses to earlier requests."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """Handles a client that reads again."""
        self._connection.resume_writing()
