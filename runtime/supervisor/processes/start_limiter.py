"""Limits how many workers start at the same time; the others wait for a slot. Runs in the supervisor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

SLOT_MAX_S = 10.0
"""A slot is released after this time even if the worker is not ready yet: imports take a second or two, and what takes longer waits for
others."""


class StartSlot:
    """The slot of one worker, granted or waited for. `release` may be called any number of times."""

    def __init__(self, limiter: StartLimiter, on_granted: Callable[[], None]) -> None:
        self._limiter = limiter
        self.on_granted = on_granted
        self.timer: asyncio.TimerHandle | None = None

    def release(self) -> None:
        """Gives the slot to the next worker: this one has started, or will not."""
        self._limiter.release_slot(self)


class StartLimiter:
    """Grants slots in the order of the requests. Without it a hundred models would import at once, each for minutes.

    Args:
        parallel: Number of slots.
    """

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._granted: set[StartSlot] = set()
        self._waiting: deque[StartSlot] = deque()

    def request_slot(self, on_granted: Callable[[], None]) -> StartSlot:
        """Requests a slot; `on_granted` is called when it is granted, which may be at once."""
        slot = StartSlot(self, on_granted)
        self._waiting.append(slot)
        self._grant_slots()
        return slot

    def release_slot(self, slot: StartSlot) -> None:
        """Takes a slot back, or the request for it; see `StartSlot.release`."""
        if slot.timer is not None:
            slot.timer.cancel()
        if slot in self._waiting:
            self._waiting.remove(slot)
        self._granted.discard(slot)
        self._grant_slots()

    def _grant_slots(self) -> None:
        while self._waiting and len(self._granted) < self._parallel:
            slot = self._waiting.popleft()
            self._granted.add(slot)
            slot.timer = asyncio.get_running_loop().call_later(SLOT_MAX_S, slot.release)
            slot.on_granted()
