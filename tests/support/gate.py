"""A gate in handlers of the test's own process: they wait in it until the test opens it."""

from __future__ import annotations

import threading

import polars as pl

from rawhttp import DEADLINE_S


class Gate:
    """Closed at first.

    Attributes:
        seen: all values that have come to it, in their order.
        heights: how many came at once, each time.
    """

    def __init__(self) -> None:
        self.seen: list[float] = []
        self.heights: list[int] = []
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()

    def note(self, values: pl.Series) -> pl.Series:
        """For a handler that does not wait."""
        self.seen.extend(values)
        self.heights.append(len(values))
        return values

    def passed(self, values: pl.Series) -> pl.Series:
        """For a handler, which goes on with the same values once the gate is open."""
        self.note(values)
        self._entered.release()
        assert self._open.wait(DEADLINE_S), "nobody has opened the gate"
        return values

    def wait_entered(self) -> None:
        """Until one more handler has come to it."""
        assert self._entered.acquire(timeout=DEADLINE_S), "no handler has come to the gate"

    def open(self) -> None:
        """Lets all pass."""
        self._open.set()

    def close(self) -> None:
        """For the next test: nothing was seen, and nobody has come."""
        self._open.clear()
        self.seen.clear()
        self.heights.clear()
        while self._entered.acquire(blocking=False):
            pass
