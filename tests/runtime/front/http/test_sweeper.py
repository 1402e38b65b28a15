"""The end of connections on which nothing comes."""

from __future__ import annotations

import asyncio

from runtime.front.http.sweeper import Sweeper


class Waiting:
    """A connection that ends at its `sweeps`-th sweep."""

    def __init__(self, all_of_them: set[Waiting], sweeps: int) -> None:
        self._all = all_of_them
        self._left = sweeps
        self.told: list[int] = []
        self.ended = lambda: None
        all_of_them.add(self)

    def sweep(self, slow_sweeps: int) -> None:
        self.told.append(slow_sweeps)
        if len(self.told) == self._left:
            self._all.discard(self)
            self.ended()


def test_connections_are_swept_until_none_is_left() -> None:
    """Those that came later too; then nothing is left that would wake the loop, until there is a connection again."""

    async def scenario() -> None:
        sweeper, connections, ended = Sweeper(slow_client_s=0.1, period_s=0.02), set[Waiting](), asyncio.Event()
        first = Waiting(connections, 1)
        sweeper.watch(connections)
        later = Waiting(connections, 3)
        sweeper.watch(connections)
        later.ended = ended.set
        await ended.wait()
        await asyncio.sleep(0)
        assert (first.told, later.told) == ([5], [5] * 3)
        assert sweeper._timer is None
        sweeper.watch({Waiting(connections, 1)})
        assert sweeper._timer is not None
        sweeper._timer.cancel()

    asyncio.run(scenario())
