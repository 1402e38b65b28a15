"""Limits the number of all connections, and the time for which a connection may be idle or slow. One timer serves all connections."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Collection
from typing import Protocol

from runtime.front.http.timeouts import TimeLimits
from runtime.front.http.write_buffers import WriteBufferLimit

log = logging.getLogger(__name__)

LOG_INTERVAL_S = 10.0


class SweptConnection(Protocol):
    """A connection with time limits."""

    def sweep(self, limits: TimeLimits) -> None:
        """Closes the connection if too little was sent or read for too long, or if it was idle for too long."""


class Sweeper:
    """Checks all connections from time to time. This costs a request nothing; a timer for each request would cost a microsecond.

    Args:
        limits: Time limits of each connection.
        connections_max: Limit of connections; more are refused.
        fds_max: Limit of file descriptor numbers; a connection that gets a higher one is refused.
        unread_max_bytes: Limit of response bytes that wait for clients; beyond it, the client with the most bytes is disconnected.

    Attributes:
        connections_max: As given; it may be changed.
        write_limit: Counts response bytes that wait for clients.
    """

    def __init__(
        self,
        limits: TimeLimits,
        connections_max: int = sys.maxsize,
        fds_max: int = sys.maxsize,
        unread_max_bytes: int = sys.maxsize,
    ) -> None:
        self.write_limit = WriteBufferLimit(unread_max_bytes)
        self.connections_max, self._fds_max = connections_max, fds_max
        self._refused, self._logged_s = 0, -LOG_INTERVAL_S
        self._limits = limits
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[SweptConnection]) -> None:
        """Sweeps the connections in this collection, including those added later, until none is left."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._limits.period_s, self._sweep, connections)

    def admits(self, connections: Collection[SweptConnection], fd: int) -> bool:
        """Returns whether the newest of these connections, with this file descriptor, may stay. Logs refusals at a limited rate.

        The kernel assigns the lowest free number, so all lower numbers are in use.
        """
        if len(connections) <= self.connections_max and fd < self._fds_max:
            return True
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_INTERVAL_S:
            reason = "the limit" if fd < self._fds_max else "and file descriptors run short (ulimit -n)"
            log.warning("%d connections are open, %s: refused %d", len(connections) - 1, reason, self._refused)
            self._refused, self._logged_s = 0, now_s
        return False

    def spares(self, fd: int) -> bool:
        """Returns whether a refused connection may keep this file descriptor until its client has read the reason."""
        return fd < self._fds_max

    def _sweep(self, connections: Collection[SweptConnection]) -> None:
        self._timer = None
        for each in list(connections):
            each.sweep(self._limits)
        if connections:
            self.watch(connections)
