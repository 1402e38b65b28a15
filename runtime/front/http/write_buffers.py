"""Answers that wait in memory for clients who do not read them: bounded in total. Pure."""

from __future__ import annotations

import logging
from typing import Protocol

log = logging.getLogger(__name__)


class Holder(Protocol):
    """A connection."""

    def give_up(self) -> None:
        """Hangs up, with all that waits."""


class WriteBufferLimit:
    """What waits for clients whose sockets are full. For one it is bounded by the requests that it may have on their way; for all, by this.

    Args:
        max_bytes: beyond it whoever has most is hung up on.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[Holder, int] = {}
        self.total_bytes = 0

    def holds(self, connection: Holder, size: int) -> None:
        """So much waits for it now, where other bytes may have waited before."""
        self.total_bytes += size - self._held.get(connection, 0)
        self._held[connection] = size
        while self.total_bytes > self._max_bytes:
            most = max(self._held, key=self._held.__getitem__)
            log.warning("%d bytes of answers wait to be read, %d may: hung up on the client with most", self.total_bytes, self._max_bytes)
            self.forget(most)
            most.give_up()

    def forget(self, connection: Holder) -> None:
        """It has read, or is gone; safe to call again."""
        self.total_bytes -= self._held.pop(connection, 0)
