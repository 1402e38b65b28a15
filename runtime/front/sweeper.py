"""Ends connections on which nothing has come for too long, all on one timer, which runs only while there are connections."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection
from typing import Protocol

PERIOD_S = 2.5
IDLE_SWEEPS = 2
"""A connection without a request ends after 5 to 7.5 s."""


class Swept(Protocol):
    """A connection."""

    def sweep(self, arrival_sweeps: int) -> None:
        """Ends if nothing has come since so many sweeps, or IDLE_SWEEPS where no request has begun."""


class Sweeper:
    """Looks at all connections from time to time: that costs a request nothing, where a timer of its own would cost it a microsecond.

    Args:
        arrival_s: a request of which nothing more comes for so long is given up, and so is a connection that says nothing at all.
    """

    def __init__(self, arrival_s: float, period_s: float = PERIOD_S) -> None:
        self._arrival_sweeps = math.ceil(arrival_s / period_s)
        self._period_s = period_s
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, connections: Collection[Swept]) -> None:
        """Sweeps these, and those that are added to them, until none is left."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._period_s, self._sweep, connections)

    def _sweep(self, connections: Collection[Swept]) -> None:
        self._timer = None
        for each in list(connections):
            each.sweep(self._arrival_sweeps)
        if connections:
            self.watch(connections)
