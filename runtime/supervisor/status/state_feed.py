"""State changes of models, as a feed for those who follow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from runtime.supervisor.status.state import State


class StateChanges:
    """Tells those who follow the state that it is another one now. Whoever is slow misses those in between."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def note(self) -> None:
        """It has changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def each(self, state: Callable[[], State]) -> AsyncIterator[State]:
        """The state now, and again whenever it has changed; for ever."""
        while True:
            following = self._next
            yield state()
            await following.wait()
