"""Time limits of one connection, in sweeps. Pure: each sweep says how much has moved since the last one."""

from __future__ import annotations

from runtime.front.http.sweeper import IDLE_SWEEPS, PERIOD_S

MINIMUM_BYTES_PER_S = 4096
"""A client that is slower for longer than a request may take is treated as an attacker: modems were faster."""

BYTES_PER_SWEEP = int(MINIMUM_BYTES_PER_S * PERIOD_S)
"""Bytes that should move between two sweeps."""


class MinimumDataRate:
    """Watches one direction of one connection while something should move there.

    A shortfall is a debt that the client may make up for; a surplus is not saved. So a pause is tolerated for as long at the end as at the
    beginning, and a byte now and then counts as a pause.
    """

    __slots__ = ("_debt_bytes",)

    def __init__(self) -> None:
        self._debt_bytes = 0

    def reset(self) -> None:
        """Forgets the debt: something else begins to move, or nothing should."""
        self._debt_bytes = 0

    def is_below(self, moved_bytes: int, sweeps: int) -> bool:
        """Counts one sweep in which `moved_bytes` moved. Returns whether the debt exceeds what should have moved in `sweeps` sweeps."""
        self._debt_bytes = max(0, self._debt_bytes + BYTES_PER_SWEEP - moved_bytes)
        return self._debt_bytes > sweeps * BYTES_PER_SWEEP


class ConnectionTimeouts:
    """Tracks how long a connection has been idle, and whether its client sends and reads at the minimum data rate.

    Attributes:
        received_bytes: Bytes that came since the last sweep. Whoever receives some adds them.
        idle_sweeps: Sweeps since something came. Whoever receives something sets it to 0.
    """

    __slots__ = ("_head_sweeps", "_message", "_reads", "_sends", "_unsent_bytes", "idle_sweeps", "received_bytes")

    def __init__(self) -> None:
        self.received_bytes = self.idle_sweeps = 0
        self._sends, self._reads = MinimumDataRate(), MinimumDataRate()
        self._head_sweeps = 0  # since the head began
        self._message = 0  # the message that was being read at the last sweep
        self._unsent_bytes = 0  # at the last sweep

    def reads_too_slowly(self, unsent_bytes: int, sweeps: int, *, write_paused: bool) -> bool:
        """Returns whether the client takes less of its responses than the minimum rate allows.

        Args:
            unsent_bytes: Bytes that wait for the client now.
            sweeps: Sweeps for which the client may take nothing.
            write_paused: Whether no response was written since the client fell behind.
        """
        taken, self._unsent_bytes = self._unsent_bytes - unsent_bytes, unsent_bytes
        if not unsent_bytes:
            self._reads.reset()
            return False
        if taken and not write_paused:  # responses that were written meanwhile hide how much was taken
            taken = BYTES_PER_SWEEP
        return self._reads.is_below(max(0, taken), sweeps)

    def on_read_buffer_empty(self) -> None:
        """The client has taken most of what waited for it."""
        self._reads.reset()

    def sends_too_slowly(self, message: int, sweeps: int, *, in_head: bool) -> bool:
        """Returns whether the client sends a request more slowly than the minimum rate allows, or its head for too long at any rate.

        Args:
            message: Number of the request that is being read.
            sweeps: Sweeps for which the client may send nothing.
            in_head: Whether its head is not complete.
        """
        if message != self._message:
            self._message, self._head_sweeps = message, 0
            self._sends.reset()
        self._head_sweeps += in_head
        received, self.received_bytes = self.received_bytes, 0
        return self._sends.is_below(received, sweeps) or self._head_sweeps > sweeps

    def is_idle_too_long(self) -> bool:
        """Returns whether nothing came for IDLE_SWEEPS, on a connection without a request."""
        self.received_bytes = 0
        self.idle_sweeps += 1
        return self.idle_sweeps > IDLE_SWEEPS

    def on_server_busy(self) -> None:
        """The client waits for us."""
        self.received_bytes = self.idle_sweeps = 0
        self._sends.reset()
