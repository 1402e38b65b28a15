"""Limits how many workers start at the same time; the others wait for a slot, those that clients need first. Runs in the supervisor."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

SLOT_MAX_S = 10.0
"""Time in seconds after which a slot is released even if the worker is not ready. Imports take a second or two, and anything longer mostly
waits for other systems."""


class StartSlot:
    """The granted or requested slot of one worker. `release` may be called any number of times."""

    def __init__(self, limiter: StartLimiter, model: str, on_granted: Callable[[], None]) -> None:
        self._limiter = limiter
        self.model = model
        self.on_granted = on_granted
        self.timer: asyncio.TimerHandle | None = None

    def release(self) -> None:
        """Releases the slot for the next worker, when this one has started or will not start."""
        self._limiter.release_slot(self)


class StartLimiter:
    """Grants slots to the models that clients have asked for, then in the order of requests.

    Without it, a hundred models would import at once, each for minutes.

    Args:
        parallel: Number of slots.
    """

    def __init__(self, parallel: int) -> None:
        self._parallel = parallel
        self._granted: set[StartSlot] = set()
        self._waiting: deque[StartSlot] = deque()
        self._preferred: dict[str, None] = {}  # models, in the order in which clients asked for them

    def prefer(self, model: str) -> None:
        """Grants the next slot to a model, since clients ask for it; behind those that were preferred before. Holds for one worker."""
        self._preferred.setdefault(model)

    def request_slot(self, model: str, on_granted: Callable[[], None]) -> StartSlot:
        """Requests a slot for a worker of a model. Calls `on_granted` when it is granted, perhaps at once."""
        slot = StartSlot(self, model, on_granted)
        self._waiting.append(slot)
        self._grant_slots()
        return slot

    def release_slot(self, slot: StartSlot) -> None:
        """Releases a slot, or cancels the request for it; see `StartSlot.release`."""
        if slot.timer is not None:
            slot.timer.cancel()
        if slot in self._waiting:
            self._waiting.remove(slot)
        self._granted.discard(slot)
        self._grant_slots()

    def _grant_slots(self) -> None:
        while self._waiting and len(self._granted) < self._parallel:
            slot = self._next_slot()
            self._granted.add(slot)
            slot.timer = asyncio.get_running_loop().call_later(SLOT_MAX_S, slot.release)
            slot.on_granted()

    def _next_slot(self) -> StartSlot:
        for model in self._preferred:
            for slot in self._waiting:
                if slot.model == model:
                    del self._preferred[model]
                    self._waiting.remove(slot)
                    return slot
        return self._waiting.popleft()
