"""Time limits of one connection, in sweeps. Pure: each sweep passes the number of bytes that were transferred since the last one."""

from __future__ import annotations

from runtime.front.http.sweeper import IDLE_SWEEPS, PERIOD_S

MINIMUM_BYTES_PER_S = 4096
"""Minimum data rate. A client that is slower for longer than a request may take is treated as an attacker: modems were faster."""

BYTES_PER_SWEEP = int(MINIMUM_BYTES_PER_S * PERIOD_S)
"""Minimum number of bytes between two sweeps."""


class MinimumDataRate:
    """Watches one direction of one connection while data should be transferred.

    A shortfall is a debt that the client may make up for; a surplus is not saved. So a pause at the end is tolerated for as long as one at
    the beginning, and an occasional byte does not end a pause.
    """

    __slots__ = ("_debt_bytes",)

    def __init__(self) -> None:
        self._debt_bytes = 0

    def reset(self) -> None:
        """Clears the debt, when another transfer begins or none is expected."""
        self._debt_bytes = 0

    def is_below(self, moved_bytes: int, sweeps: int) -> bool:
        """Counts a sweep with `moved_bytes` transferred. Returns whether the debt exceeds the minimum for `sweeps` sweeps."""
        self._debt_bytes = max(0, self._debt_bytes + BYTES_PER_SWEEP - moved_bytes)
        return self._debt_bytes > sweeps * BYTES_PER_SWEEP


class ConnectionTimeouts:
    """Tracks how long a connection has been idle, and whether its client sends and reads at the minimum data rate.

    Attributes:
        received_bytes: Bytes received since the last sweep. The code that receives bytes adds them.
        idle_sweeps: Sweeps since the last bytes came. The code that receives bytes sets it to 0.
    """

    __slots__ = ("_head_sweeps", "_message", "_reads", "_sends", "_unsent_bytes", "idle_sweeps", "received_bytes")

    def __init__(self) -> None:
        self.received_bytes = self.idle_sweeps = 0
        self._sends, self._reads = MinimumDataRate(), MinimumDataRate()
        self._head_sweeps = 0  # since the head began
        self._message = 0  # the message that was being read at the last sweep
        self._unsent_bytes = 0  # at the last sweep

    def reads_too_slowly(self, unsent_bytes: int, sweeps: int, *, write_paused: bool) -> bool:
        """Returns whether the client reads its responses more slowly than the minimum rate allows.

        Args:
            unsent_bytes: Bytes that wait for the client now.
            sweeps: Sweeps for which the client may read nothing.
            write_paused: Whether no response was written since the client fell behind.
        """
        taken, self._unsent_bytes = self._unsent_bytes - unsent_bytes, unsent_bytes
        if not unsent_bytes:
            self._reads.reset()
            return False
        if taken and not write_paused:  # responses that were written meanwhile would hide how much was read
            taken = BYTES_PER_SWEEP
        return self._reads.is_below(max(0, taken), sweeps)

    def on_read_buffer_empty(self) -> None:
        """Handles a client that has read most of the bytes that waited for it."""
        self._reads.reset()

    def sends_too_slowly(self, message: int, sweeps: int, *, in_head: bool) -> bool:
        """Returns whether the client sends a request below the minimum rate, or takes too long for its head at any rate.

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
        """Returns whether a connection without a request received nothing for IDLE_SWEEPS."""
        self.received_bytes = 0
        self.idle_sweeps += 1
        return self.idle_sweeps > IDLE_SWEEPS

    def on_server_busy(self) -> None:
        """Handles a sweep in which the client waits for the server."""
        self.received_bytes = self.idle_sweeps = 0
        self._sends.reset()
