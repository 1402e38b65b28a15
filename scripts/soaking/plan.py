"""The parameters of a soak test, and its phases."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

_GROWTH_SHARE = 0.6
"""The last part of the time, in which the supervisor is not restarted and the growth of processes is measured."""


@dataclass(frozen=True)
class Plan:
    """The parameters of a soak test.

    Attributes:
        seed: Seed of the faults and their order.
        seconds: Duration of the load.
        connections: Connections that send requests without a pause.
        front_doors: Number of front doors.
        kinds: Kinds of faults; all if empty.
        start_s: Time (monotonic) at which the load begins.
    """

    seed: int
    seconds: float
    connections: int = 16
    front_doors: int = 2
    kinds: tuple[str, ...] = ()
    start_s: float = field(default_factory=time.monotonic)

    def is_over(self) -> bool:
        """Returns whether the load has ended."""
        return time.monotonic() >= self.start_s + self.seconds

    def may_restart(self) -> bool:
        """Returns whether the supervisor may be restarted now: before the growth of processes is measured."""
        return time.monotonic() < self.start_s + self.seconds * (1 - _GROWTH_SHARE)
