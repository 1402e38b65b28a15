"""Reads large Arrow and Parquet bodies from a connection's socket straight into shared memory, or into what is written to a file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_body import TableBody


class BodyConnection(Protocol):
    """The connection that a body comes over."""

    transport: asyncio.Transport

    def on_body_bytes(self, size: int) -> None:
        """Handles bytes of a body that bypassed the parser."""

    def on_body_whole(self) -> None:
        """Handles the end of a body that bypassed the parser."""

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
        set_disk_busy: Pauses and resumes reading of a body whose disk is behind; None for a body in memory.
    """

    def __init__(self, connection: BodyConnection, buffer: BodyBuffer, set_disk_busy: Callable[[bool], None] | None = None) -> None:
        self._connection = connection
        self._buffer = buffer
        self._set_disk_busy = set_disk_busy

    def get_buffer(self, _: int) -> memoryview:
        """Returns the memory for the next bytes from the socket."""
        return self._buffer.unfilled

    def buffer_updated(self, size: int) -> None:
        """Handles bytes that were read."""
        self._buffer.advance(size)
        self._connection.on_body_bytes(size)
        if not self._buffer.missing_bytes:
            self._connection.transport.set_protocol(self._connection)  # type: ignore[arg-type]  # it is one
            self._connection.on_body_whole()
        elif self._set_disk_busy is not None and isinstance(self._buffer, TableBody) and not self._buffer.unfilled:
            self._set_disk_busy(True)
            self._buffer.on_writable = partial(self._set_disk_busy, False)

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
