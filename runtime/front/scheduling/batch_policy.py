"""When the next batch of an endpoint goes. Pure: it is told what comes, and what time it is.

`docs/design.md`, "When a batch goes", has the rule and the measurements that chose it.
"""

from __future__ import annotations

from enum import Enum

HOLD_MAX_S = 0.001
"""However dense requests come, the first of them is not held back longer: a third of what a plain scikit-learn model takes for a batch."""


class DispatchDecision(Enum):
    """What to do with the rows that wait."""

    GO = 1
    HOLD = 2
    """Look again at the next turn of the loop: requests are coming in, and most of those that follow are already there."""
    WAIT = 3
    """Until the worker has answered: it has enough to do, and what gathers meanwhile makes a better batch."""


class DispatchPolicy:
    """Of one endpoint.

    Args:
        batch_max_rows: of a batch; so many go at once.
        max_delay_s: no row is held back for others longer than that.
    """

    def __init__(self, batch_max_rows: int, max_delay_s: float) -> None:
        self._batch_max_rows = batch_max_rows
        self._hold_s = min(max_delay_s, HOLD_MAX_S)
        self._came = 0
        self._dense = False
        self._held_until = 0.0

    def came(self) -> None:
        """One more request waits."""
        self._came += 1

    def turn(self, now_s: float) -> None:
        """A turn of the loop is over; all that came in it has been told."""
        self._dense = self._came > 1 or (self._came == 1 and self._held_until > 0.0)
        self._came = 0
        if self._held_until and now_s >= self._held_until:
            self._dense = False

    def step(self, rows: int, computing_rows: int, now_s: float) -> DispatchDecision:
        """What becomes of the rows that wait.

        Args:
            rows: that wait; not 0.
            computing_rows: of the batch that the least busy worker has already; 0 where it has none.
            now_s: the time.
        """
        if rows < self._batch_max_rows:
            if 2 * rows < computing_rows:
                self._held_until = 0.0
                return DispatchDecision.WAIT
            if self._dense and self._hold_s:
                self._held_until = self._held_until or now_s + self._hold_s
                return DispatchDecision.HOLD
        self._held_until = 0.0
        return DispatchDecision.GO
