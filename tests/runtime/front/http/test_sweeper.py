"""Sweeps of all connections on one timer."""

from __future__ import annotations

import asyncio

from runtime.front.http.sweeper import Sweeper
from runtime.front.http.timeouts import TimeLimits

LIMITS = TimeLimits(0.02, 1, 2, 5)


class Waiting:
    """A connection that ends at its `last` sweep, counted from 1."""

    def __init__(self, connections: set[Waiting], last: int) -> None:
        self._connections = connections
        self._last = last
        self.sweeps: list[TimeLimits] = []
        self.ended = lambda: None
        connections.add(self)

    def sweep(self, limits: TimeLimits) -> None:
        self.sweeps.append(limits)
        if len(self.sweeps) == self._last:
            self._connections.discard(self)
            self.ended()


def test_connections_are_swept_until_none_is_left() -> None:
    """So are those that came later. Afterwards nothing wakes the loop until there is a connection again."""

    async def scenario() -> None:
        sweeper, connections, ended = Sweeper(LIMITS), set[Waiting](), asyncio.Event()
        first = Waiting(connections, 1)
        sweeper.watch(connections)
        later = Waiting(connections, 3)
        sweeper.watch(connections)
        later.ended = ended.set
        await ended.wait()
        await asyncio.sleep(0)
        assert (first.sweeps, later.sweeps) == ([LIMITS], [LIMITS] * 3)
        assert sweeper._timer is None
        sweeper.watch({Waiting(connections, 1)})
        assert sweeper._timer is not None
        sweeper._timer.cancel()

    asyncio.run(scenario())
