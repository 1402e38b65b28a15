"""Time limits of one connection, in sweeps. Pure: each sweep passes the number of bytes that were transferred since the last one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

MINIMUM_BYTES_PER_S = 4096
"""Minimum data rate. A client that is slower for longer than a request may take is treated as an attacker: modems were faster."""

PERIOD_MAX_S = 2.5
PERIOD_MIN_S = 0.25


@dataclass(frozen=True)
class TimeLimits:
    """Time limits of all connections, in sweeps. A limit of n sweeps is exceeded at the next one, so never too early.

    Attributes:
        period_s: Time between two sweeps: at most half of the shortest limit, within bounds.
        idle_sweeps: Limit for a connection between two requests.
        head_sweeps: Limit for the head of a request, and for the time before the first.
        slow_sweeps: Limit for a client that sends or reads nothing, or less than the minimum data rate.
    """

    period_s: float
    idle_sweeps: int
    head_sweeps: int
    slow_sweeps: int

    @classmethod
    def from_seconds(cls, *, idle_s: float, head_s: float, slow_s: float) -> Self:
        """Returns the limits in sweeps."""
        period_s = min(PERIOD_MAX_S, max(PERIOD_MIN_S, min(idle_s, head_s, slow_s) / 2))
        return cls(period_s, *(math.ceil(each / period_s) for each in (idle_s, head_s, slow_s)))

    @property
    def bytes_per_sweep(self) -> int:
        """The minimum data rate."""
        return int(MINIMUM_BYTES_PER_S * self.period_s)


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

    def is_below(self, moved_bytes: int, limits: TimeLimits) -> bool:
        """Counts a sweep with `moved_bytes` transferred. Returns whether the debt exceeds the minimum for the time that is allowed."""
        least_bytes = limits.bytes_per_sweep
        self._debt_bytes = max(0, self._debt_bytes + least_bytes - moved_bytes)
        return self._debt_bytes > limits.slow_sweeps * least_bytes


class ConnectionTimeouts:
    """Tracks how long a connection has been idle, and whether its client sends and reads at the minimum data rate.

    Attributes:
        received_bytes: Bytes received since the last sweep. The code that receives bytes adds them.
        idle_sweeps: Sweeps since the last bytes came or the last response was sent. The code that does so sets it to 0.
    """

    __slots__ = ("_head_sweeps", "_message", "_reads", "_sends", "_unsent_bytes", "idle_sweeps", "received_bytes")

    def __init__(self) -> None:
        self.received_bytes = self.idle_sweeps = 0
        self._sends, self._reads = MinimumDataRate(), MinimumDataRate()
        self._head_sweeps = 0  # since the head began
        self._message = 0  # the message that was being read at the last sweep
        self._unsent_bytes = 0  # at the last sweep

    def reads_too_slowly(self, unsent_bytes: int, limits: TimeLimits, *, write_paused: bool) -> bool:
        """Returns whether the client reads its responses more slowly than the minimum rate allows.

        Args:
            unsent_bytes: Bytes that wait for the client now.
            limits: Time for which the client may read nothing.
            write_paused: Whether no response was written since the client fell behind.
        """
        taken, self._unsent_bytes = self._unsent_bytes - unsent_bytes, unsent_bytes
        if not unsent_bytes:
            self._reads.reset()
            return False
        if taken and not write_paused:  # responses that were written meanwhile would hide how much was read
            taken = limits.bytes_per_sweep
        return self._reads.is_below(max(0, taken), limits)

    def on_read_buffer_empty(self) -> None:
        """Handles a client that has read most of the bytes that waited for it."""
        self._reads.reset()

    def sends_too_slowly(self, message: int, limits: TimeLimits, *, in_head: bool) -> bool:
        """Returns whether the client sends a request below the minimum rate, or takes too long for its head at any rate.

        Args:
            message: Number of the request that is being read; 0 before the first.
            limits: Time for which the client may send nothing, and for a head.
            in_head: Whether its head is not complete.
        """
        if message != self._message:
            self._message, self._head_sweeps = message, 0
            self._sends.reset()
        self._head_sweeps += in_head
        received, self.received_bytes = self.received_bytes, 0
        return self._sends.is_below(received, limits) or self._head_sweeps > limits.head_sweeps

    def is_idle_too_long(self, message: int, limits: TimeLimits) -> bool:
        """Returns whether a connection without a request received nothing for too long.

        Args:
            message: Number of the last request; 0 before the first, whose head must be complete in the time for a head.
            limits: Time for which nothing may come.
        """
        if not message:
            return self.sends_too_slowly(0, limits, in_head=True)
        self.received_bytes = 0
        self.idle_sweeps += 1
        return self.idle_sweeps > limits.idle_sweeps

    def on_server_busy(self) -> None:
        """Handles a sweep in which the client waits for the server."""
        self.received_bytes = self.idle_sweeps = 0
        self._sends.reset()
