"""Exponential backoff: the delay before a failed operation is tried again. Pure."""

from __future__ import annotations

from dataclasses import dataclass

_DOUBLINGS_MAX = 60
"""Limit of the exponent, far beyond every cap, so that it does not overflow after days of failures."""


@dataclass(frozen=True)
class Backoff:
    """The delays of one kind of retry: doubled with each failure in a row, up to a cap.

    Attributes:
        min_s: Delay after the first failure, in seconds.
        max_s: Longest delay.
        reset_s: Something that worked for at least this long before it failed starts over with the first delay; None for `max_s`.
    """

    min_s: float
    max_s: float
    reset_s: float | None = None

    def delay_s(self, failures: int) -> float:
        """Returns the delay after `failures` failures in a row (at least 1)."""
        return min(self.max_s, self.min_s * 2.0 ** min(failures - 1, _DOUBLINGS_MAX))

    def count_failure(self, failures_before: int, worked_s: float) -> int:
        """Returns the number of failures in a row, including a new failure that came after `worked_s` seconds of work."""
        return 1 if worked_s >= (self.max_s if self.reset_s is None else self.reset_s) else failures_before + 1
