"""A gate for handlers in the test's own process: they block in it until the test opens it."""

from __future__ import annotations

import threading

import polars as pl

from rawhttp import DEADLINE_S


class Gate:
    """A gate that is closed at first.

    Attributes:
        seen: All values that have reached it, in order.
        heights: Number of values of each call.
    """

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.heights: list[int] = []
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def note(self, values: pl.Series) -> pl.Series:
        """Records values for a handler that does not block."""
        self.seen.extend(values)
        self.heights.append(len(values))
        return values

    def passed(self, values: pl.Series) -> pl.Series:
        """Blocks a handler until the gate is open, and returns the same values."""
        self.note(values)
        self._entered.release()
        assert self._open.wait(DEADLINE_S), "nobody has opened the gate"
        return values

    def wait_entered(self) -> None:
        """Waits until one more handler has reached it."""
        assert self._entered.acquire(timeout=DEADLINE_S), "no handler has come to the gate"

    def open(self) -> None:
        """Lets all handlers pass."""
        self._open.set()

    def close(self) -> None:
        """Resets it for the next test."""
        self._open.clear()
        self.seen.clear()
        self.heights.clear()
        while self._entered.acquire(blocking=False):
            pass
