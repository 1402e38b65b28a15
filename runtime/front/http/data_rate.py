"""How slowly a client may send or take. Pure: it is told at each sweep how much has moved since the last."""

from __future__ import annotations

from runtime.front.http.sweeper import PERIOD_S

SLOWEST_BYTES_A_S = 4096
"""Who is slower for longer than a request may take is taken for one who means to be: modems were faster."""

A_SWEEP = int(SLOWEST_BYTES_A_S * PERIOD_S)
"""Bytes that should move between two sweeps."""


class MinimumDataRate:
    """With one direction of one connection, while something should move there.

    What was too little is owed, and may be made up for; what was more than enough is not saved up. So silence is borne as long at the end
    as at the beginning, and a byte now and then is silence.
    """

    __slots__ = ("_owed",)

    def __init__(self) -> None:
        self._owed = 0

    def reset(self) -> None:
        """Something else begins to move, or nothing should."""
        self._owed = 0

    def is_over(self, moved_bytes: int, sweeps: int) -> bool:
        """Whether as much is owed as should have moved in so many sweeps, after another one since which so many bytes have moved."""
        self._owed = max(0, self._owed + A_SWEEP - moved_bytes)
        return self._owed > sweeps * A_SWEEP
