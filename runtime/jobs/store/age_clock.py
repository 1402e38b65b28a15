"""A clock that measures ages over restarts, and that no change of the machine's time can turn back or forward."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

BOOT_MAX_S = 86400.0
"""Time in seconds that a reboot counts at most: only the wall clock knows how long the machine was off, and that may be wrong."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reading(NamedTuple):
    """The time that the machine's clocks show at one moment.

    Attributes:
        boot_id: Names the time since the machine was started.
        boot_s: Seconds since the machine was started, sleep included.
        wall_s: Seconds since 1970.
    """

    boot_id: str
    boot_s: float
    wall_s: float


def read_clocks() -> Reading:
    """Returns what the clocks of this machine show now."""
    return Reading(_BOOT_ID.read_text("ascii").strip(), time.clock_gettime(time.CLOCK_BOOTTIME), time.time())


class AgeClock:
    """Counts seconds from a last known moment on. Differences of its times are ages.

    Args:
        read: Returns what the machine's clocks show.
        age_s: Its time at the last moment that was stored.
        stored: What the clocks showed then; None if nothing was stored.
    """

    def __init__(self, read: Callable[[], Reading] = read_clocks, age_s: float = 0.0, stored: Reading | None = None) -> None:
        self._read = read
        self._begun = begun = read()
        self._age_s = age_s
        if stored is not None and stored.boot_id == begun.boot_id:
            self._age_s += max(0.0, begun.boot_s - stored.boot_s)
        elif stored is not None:
            self._age_s += min(max(0.0, begun.wall_s - stored.wall_s), BOOT_MAX_S)

    def now_s(self) -> float:
        """Returns its time in seconds."""
        return self._age_s + self._read().boot_s - self._begun.boot_s

    def wall_s(self) -> float:
        """Returns the time of the wall clock, for clients."""
        return self._read().wall_s

    def reading(self) -> tuple[float, Reading]:
        """Returns its time and what the clocks show, to be stored."""
        shown = self._read()
        return self._age_s + shown.boot_s - self._begun.boot_s, shown
