"""Decides when the next batch of an endpoint is sent. Pure: reads no clock and knows no worker.

`docs/design.md`, "When a batch is sent", has the rule and the measurements that chose it.
"""

from __future__ import annotations

from enum import Enum

HOLD_MAX_S = 0.001
"""Limit of holding back the first request, however dense requests arrive: a third of what a plain scikit-learn model takes for a batch."""


class DispatchDecision(Enum):
    """A decision on the rows that wait."""

    GO = 1
    """Send them now."""
    HOLD = 2
    """Decide again in the next turn of the loop: requests are arriving, and most of those that follow are already in the sockets."""
    WAIT = 3
    """Wait until a worker has replied: it has enough to do, and what gathers meanwhile makes a better batch."""


class DispatchPolicy:
    """Decides for one endpoint.

    Args:
        batch_max_rows: Limit of a batch; as many rows are sent at once.
        max_delay_s: Limit of holding back a row for others.

    Attributes:
        arrivals: Requests that arrived since the last turn of the loop. The code that queues a request counts it here, and the dispatcher
            sets it to 0 at the end of its turn.
    """

    def __init__(self, batch_max_rows: int, max_delay_s: float) -> None:
        self._batch_max_rows = batch_max_rows
        self._hold_s = min(max_delay_s, HOLD_MAX_S)
        self.arrivals = 0
        self._held_until_s = 0.0

    def decide(self, rows: int, computing_rows: int, now_s: float) -> DispatchDecision:
        """Returns what to do with the rows that wait.

        Args:
            rows: Rows that wait; not 0.
            computing_rows: Rows that the least busy worker has to compute already.
            now_s: The time.
        """
        if rows < self._batch_max_rows:
            if 2 * rows < computing_rows:
                self._held_until_s = 0.0
                return DispatchDecision.WAIT
            held_until_s = self._held_until_s
            are_arriving = self.arrivals > 1 or (self.arrivals == 1 and held_until_s > 0.0)
            if are_arriving and self._hold_s and not 0.0 < held_until_s <= now_s:
                self._held_until_s = held_until_s or now_s + self._hold_s
                return DispatchDecision.HOLD
        self._held_until_s = 0.0
        return DispatchDecision.GO
