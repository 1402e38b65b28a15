"""Limits of the shared memory of a front door and of each of its releases."""

from __future__ import annotations

from collections.abc import Callable

from base.errors import Full

MIRROR_DIVISOR = 4
"""Mirrored requests to one release get all shared memory divided by this number; clients have the rest."""


class MemoryBudget:
    """A limit on the bytes of all segments of a front door, or of one release in it.

    Args:
        max_bytes: The limit; it may change later.
        whole: The budget of which this is a part. Each reservation here is also made there.

    Attributes:
        max_bytes: The limit.
        used_bytes: Reserved bytes.
        reclaimers: Called when bytes run short; each frees memory that it keeps only for later use.
    """

    def __init__(self, max_bytes: int, whole: MemoryBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.reclaimers: set[Callable[[], None]] = set() if whole is None else whole.reclaimers
        self._whole = whole

    @property
    def is_ample(self) -> bool:
        """True if less than half is in use, so that a slow client may keep some of it."""
        return 2 * self.used_bytes < self.max_bytes

    def reserve(self, size: int) -> None:
        """Reserves `size` bytes.

        Raises:
            Full: the limit would be exceeded. Nothing was reserved.
        """
        if not self._fits(size, self.max_bytes):
            free = max(0, self.max_bytes - self.used_bytes)
            raise Full(f"out of shared memory: {size} bytes needed, {free} free; try again later")
        if self._whole is not None:
            self._whole.reserve(size)
        self.used_bytes += size

    def reserve_for_body(self, size: int) -> None:
        """Reserves `size` bytes for a body that a client still has to send, from the first half of the budget only.

        The other half remains available to complete requests, however slow clients are.

        Raises:
            Full: half of the limit would be exceeded. Nothing was reserved.
        """
        if not self._fits(size, self.max_bytes // 2):
            raise Full(f"out of shared memory for bodies: {size} bytes needed, limit {self.max_bytes // 2}; try again later")
        if self._whole is not None:
            self._whole.reserve_for_body(size)
        self.used_bytes += size

    def transfer_out(self, size: int) -> None:
        """Stops counting bytes that another part takes over. The whole budget still counts them."""
        self.used_bytes -= size

    def transfer_in(self, size: int) -> None:
        """Starts counting bytes that another part has given up. The whole budget already counts them."""
        self.used_bytes += size

    def release(self, size: int) -> None:
        """Releases `size` reserved bytes."""
        self.used_bytes -= size
        if self._whole is not None:
            self._whole.release(size)

    def _fits(self, size: int, max_bytes: int) -> bool:
        if self.used_bytes + size > max_bytes:
            for reclaim in list(self.reclaimers):  # a reclaimer that cannot reach its worker removes itself
                reclaim()
        return self.used_bytes + size <= max_bytes


def release_max_bytes(segments_max_bytes: int, releases: int) -> int:
    """Returns the limit of each of several releases: all bytes, minus half of the equal shares of the other releases."""
    return segments_max_bytes * (releases + 1) // (2 * releases) if releases > 1 else segments_max_bytes
