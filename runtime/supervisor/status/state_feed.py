"""A feed of state changes for clients that follow the state of a supervisor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

from runtime.supervisor.status.state import State


class StateFeed:
    """Wakes followers when the state has changed. A slow follower misses intermediate states."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def notify(self) -> None:
        """Wakes every follower, since the state has changed."""
        self._next.set()
        self._next = asyncio.Event()

    async def follow(self, state: Callable[[], State]) -> AsyncIterator[State]:
        """Yields the current state, and the new state after every change, without end."""
        while True:
            changed = self._next
            yield state()
            await changed.wait()
