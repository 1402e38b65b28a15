"""Limits the number of all connections, and the time for which a connection may be idle or slow. One timer serves all connections."""

from __future__ import annotations

import asyncio
import logging
import math
import sys
import time
from collections.abc import Collection
from typing import Protocol

from runtime.front.http.write_buffers import WriteBufferLimit

log = logging.getLogger(__name__)

PERIOD_S = 2.5
LOG_INTERVAL_S = 10.0
IDLE_SWEEPS = 2
"""A connection without a request is closed after 5 to 7.5 s."""


class SweptConnection(Protocol):
    """A connection with time limits."""

    def sweep(self, slow_sweeps: int) -> None:
        """Closes the connection if too little was sent or read for `slow_sweeps` sweeps, or if it was idle for IDLE_SWEEPS."""


class Sweeper:
    """Checks all connections from time to time. This costs a request nothing; a timer for each request would cost a microsecond.

    Args:
        slow_client_s: Time for which a client may send or read less than the minimum data rate, or send nothing at all.
        connections_max: Limit of connections; more are refused.
        fds_max: Limit of file descriptor numbers; a connection that gets a higher one is refused.
        unread_max_bytes: Limit of response bytes that wait for clients; beyond it, the client with the most bytes is disconnected.
        period_s: Time between two sweeps.

    Attributes:
        write_limit: Counts response bytes that wait for clients.
    """

    def __init__(
        self,
        slow_client_s: float,
        connections_max: int = sys.maxsize,
        fds_max: int = sys.maxsize,
        unread_max_bytes: int = sys.maxsize,
        period_s: float = PERIOD_S,
    ) -> None:
        self.write_limit = WriteBufferLimit(unread_max_bytes)
        self._connections_max, self._fds_max = connections_max, fds_max
        self._refused, self._logged_s = 0, -LOG_INTERVAL_S
        self._slow_sweeps = math.ceil(slow_client_s / period_s)
        self._period_s = period_s
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[SweptConnection]) -> None:
        """Sweeps the connections in this collection, including those added later, until none is left."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep, connections)

    def admits(self, connections: Collection[SweptConnection], fd: int) -> bool:
        """Returns whether the newest of these connections, with this file descriptor, may stay. Logs refusals at a limited rate.

        The kernel assigns the lowest free number, so all lower numbers are in use.
        """
        if len(connections) <= self._connections_max and fd < self._fds_max:
            return True
        self._refused += 1
        now_s = time.monotonic()
        if now_s - self._logged_s >= LOG_INTERVAL_S:
            reason = "the limit" if fd < self._fds_max else "and file descriptors run short (ulimit -n)"
            log.warning("%d connections are open, %s: refused %d", len(connections) - 1, reason, self._refused)
            self._refused, self._logged_s = 0, now_s
        return False

    def _sweep(self, connections: Collection[SweptConnection]) -> None:
        self._timer = None
        for each in list(connections):
            each.sweep(self._slow_sweeps)
        if connections:
            self.watch(connections)
