"""Limits the total size of responses that wait in memory for clients that do not read them. Pure."""

from __future__ import annotations

import logging
from typing import Protocol

log = logging.getLogger(__name__)


class BufferedWriter(Protocol):
    """The writer of one connection."""

    def abort(self) -> None:
        """Closes the connection at once, and drops the bytes that wait for its client."""


class WriteBufferLimit:
    """Limits the bytes that wait for clients whose sockets are full.

    The number of requests in its pipeline limits them for one client; this class limits them for all clients together.

    Args:
        max_bytes: The limit. Beyond it, the client with the most waiting bytes is disconnected.

    Attributes:
        total_bytes: Bytes that wait for all clients.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: dict[BufferedWriter, int] = {}
        self.total_bytes = 0

    def set_waiting(self, writer: BufferedWriter, size: int) -> None:
        """Sets the number of bytes that wait for a client. May disconnect a client."""
        self.total_bytes += size - self._waiting.get(writer, 0)
        self._waiting[writer] = size
        while self.total_bytes > self._max_bytes:
            largest = max(self._waiting, key=self._waiting.__getitem__)
            log.warning(
                "%d bytes of responses wait, limit %d: disconnecting the client with the most",
                self.total_bytes,
                self._max_bytes,
            )
            self.forget(largest)
            largest.abort()

    def forget(self, writer: BufferedWriter) -> None:
        """Records that nothing waits for a client, or that it is gone. Idempotent."""
        self.total_bytes -= self._waiting.pop(writer, 0)
