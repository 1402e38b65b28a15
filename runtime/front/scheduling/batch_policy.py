"""Decides when the next batch of an endpoint is sent. Pure: reads no clock and knows no worker.

`docs/design.md`, "When a batch is sent", has the rule and the measurements on which it is based.
"""

from __future__ import annotations

from enum import Enum

HOLD_MAX_S = 0.001
"""Limit of holding back the first request, in seconds, even if requests keep arriving: a third of the time that a plain scikit-learn model
takes for a batch."""


class DispatchDecision(Enum):
    """A decision about the waiting rows."""

    GO = 1
    """Send them now."""
    HOLD = 2
    """Decide again in the next iteration of the loop: requests are arriving, and most of the next ones are already in the sockets."""
    WAIT = 3
    """Wait until a worker has replied: all workers have enough to do, and more rows meanwhile make a better batch."""


class DispatchPolicy:
    """Decides for one endpoint.

    Args:
        batch_max_rows: Limit of the rows in a batch. A full batch is sent at once.
        max_delay_s: Time limit for holding back a row for others, in seconds.

    Attributes:
        arrivals: Requests that arrived in the present iteration of the loop. The code that queues a request counts it here, and the
            dispatcher resets it to 0 when it has dispatched.
    """

    def __init__(self, batch_max_rows: int, max_delay_s: float) -> None:
        self._batch_max_rows = batch_max_rows
        self._hold_s = min(max_delay_s, HOLD_MAX_S)
        self.arrivals = 0
        self._held_until_s = 0.0

    def decide(self, rows: int, computing_rows: int, now_s: float) -> DispatchDecision:
        """Returns the decision about the waiting rows.

        Args:
            rows: Number of waiting rows; not 0.
            computing_rows: Number of rows that the least busy worker already has to compute.
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
