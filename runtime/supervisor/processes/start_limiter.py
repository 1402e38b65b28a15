"""How many workers are being started at once; the others wait for their turn. Runs in the supervisor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

SLOT_MAX_S = 10.0
"""A turn is over after this, though the worker is not ready yet: imports take a second or two, and what takes longer waits for others."""


class StartSlot:
    """One worker's turn, waited for or taken. `end` gives it up, as often as one likes."""

    def __init__(self, starts: StartLimiter, go: Callable[[], None]) -> None:
        self._starts = starts
        self.on_granted = go
        self.timer: asyncio.TimerHandle | None = None

    def release(self) -> None:
        """It is started, or will not be."""
        self._starts.release_slot(self)


class StartLimiter:
    """Turns to start, in the order in which they were asked for. Without it a hundred models would import at once, each for minutes.

    Args:
        parallel: how many are taken at once.
    """

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._taken: set[StartSlot] = set()
        self._waiting: deque[StartSlot] = deque()

    def request_slot(self, go: Callable[[], None]) -> StartSlot:
        """A turn, at once or later: `go` is called when it has come."""
        turn = StartSlot(self, go)
        self._waiting.append(turn)
        self._next()
        return turn

    def release_slot(self, turn: StartSlot) -> None:
        """See `Turn.end`."""
        if turn.timer is not None:
            turn.timer.cancel()
        if turn in self._waiting:
            self._waiting.remove(turn)
        self._taken.discard(turn)
        self._next()

    def _next(self) -> None:
        while self._waiting and len(self._taken) < self._parallel:
            turn = self._waiting.popleft()
            self._taken.add(turn)
            turn.timer = asyncio.get_running_loop().call_later(SLOT_MAX_S, turn.release)
            turn.on_granted()
