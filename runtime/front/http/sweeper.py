"""Which connections stay: no more than so many, and none on which nothing moves for too long; all on one timer, while there are any."""

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
SAID_EVERY_S = 10.0
IDLE_SWEEPS = 2
"""A connection without a request ends after 5 to 7.5 s."""


class Swept(Protocol):
    """A connection."""

    def sweep(self, arrival_sweeps: int) -> None:
        """Ends if too little has come since so many sweeps, or been taken; or if nothing came since IDLE_SWEEPS, and none has begun."""


class Sweeper:
    """Looks at all connections from time to time: that costs a request nothing, where a timer of its own would cost it a microsecond.

    Args:
        arrival_s: a request of which too little comes for so long is given up, and so is a connection that says nothing at all, and a
            client that takes too little of its answers.
        connections_max: more are turned away.
        descriptors_max: so are those for which this process has to have more open.
        unread_max_bytes: of answers that clients do not read; beyond it whoever has most of them is hung up on.
    """

    def __init__(
        self,
        arrival_s: float,
        connections_max: int = sys.maxsize,
        descriptors_max: int = sys.maxsize,
        unread_max_bytes: int = sys.maxsize,
        period_s: float = PERIOD_S,
    ) -> None:
        self.unread = WriteBufferLimit(unread_max_bytes)
        self._connections_max, self._descriptors_max = connections_max, descriptors_max
        self._turned_away, self._said_s = 0, -SAID_EVERY_S
        self._arrival_sweeps = math.ceil(arrival_s / period_s)
        self._period_s = period_s
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[Swept]) -> None:
        """Sweeps these, and those that are added to them, until none is left."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep, connections)

    def admits(self, connections: Collection[Swept], descriptor: int) -> bool:
        """Whether the newest of these may stay, which has this descriptor. Says in the log, now and then, how many may not.

        The kernel gives the lowest number that is free, so all below are in use, by whatever.
        """
        if len(connections) <= self._connections_max and descriptor < self._descriptors_max:
            return True
        self._turned_away += 1
        now_s = time.monotonic()
        if now_s - self._said_s >= SAID_EVERY_S:
            why = "" if descriptor < self._descriptors_max else ", since descriptors run short (ulimit -n)"
            log.warning("%d connections are open and no more may be%s: turned away %d", len(connections) - 1, why, self._turned_away)
            self._turned_away, self._said_s = 0, now_s
        return False

    def _sweep(self, connections: Collection[Swept]) -> None:
        self._timer = None
        for each in list(connections):
            each.sweep(self._arrival_sweeps)
        if connections:
            self.watch(connections)
