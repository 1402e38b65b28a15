"""Exponential back-off between restarts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackOff:
    """How long to wait before a restart: doubled with each death in a row, up to a cap."""

    min_s: float
    max_s: float

    def delay_s(self, deaths: int) -> float:
        """The delay after `deaths` deaths in a row, 1 or more."""
        return min(self.max_s, self.min_s * 2.0 ** min(deaths - 1, 60))

    def deaths(self, deaths_before: int, lived_s: float) -> int:
        """Deaths in a row, after one more life that was ready for `lived_s`; a long life wipes out what was before."""
        return 1 if lived_s >= self.max_s else deaths_before + 1
