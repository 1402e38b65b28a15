"""How much shared memory a front door and each release in it may take."""

from __future__ import annotations

from collections.abc import Callable

from base.errors import Full

COPIES_PART = 4
"""Of all shared memory copies of requests take no more than this part, so that clients have the rest."""


class MemoryBudget:
    """What all segments of one front door may take together, or those of one release.

    Args:
        whole: of which this is a part; what is taken here is taken there.

    Attributes:
        max_bytes: the bound; it may change.
        used_bytes: what is taken.
        savers: called where there is not enough; each gives back what it only keeps for later.
    """

    def __init__(self, max_bytes: int, whole: MemoryBudget | None = None) -> None:
        self.max_bytes = max_bytes
        self.used_bytes = 0
        self.reclaimers: set[Callable[[], None]] = set() if whole is None else whole.reclaimers
        self._whole = whole

    def take(self, size: int) -> None:
        """Counts `size` bytes in.

        Raises:
            Full: that would be over the bound. Nothing was counted.
        """
        if not self._fits(size, self.max_bytes):
            free = max(0, self.max_bytes - self.used_bytes)
            raise Full(f"{size} bytes of shared memory are wanted, and {free} are free; try again later")
        if self._whole is not None:
            self._whole.take(size)
        self.used_bytes += size

    def take_for_arrival(self, size: int) -> None:
        """As `take`, for what a client still has to send: half of all stays for what has come, however slow clients are.

        Raises:
            Full: half of all is in use. Nothing was counted.
        """
        if not self._fits(size, self.max_bytes // 2):
            raise Full(f"{size} bytes of shared memory are wanted, and half of {self.max_bytes} would be in use; try again later")
        if self._whole is not None:
            self._whole.take_for_arrival(size)
        self.used_bytes += size

    def disown(self, size: int) -> None:
        """Counts out what the whole goes on counting, for another part to adopt."""
        self.used_bytes -= size

    def adopt(self, size: int) -> None:
        """Counts in what the whole has counted already."""
        self.used_bytes += size

    @property
    def plenty(self) -> bool:
        """Whether less than half is in use: then a slow client may be let have some of it."""
        return 2 * self.used_bytes < self.max_bytes

    def give_back(self, size: int) -> None:
        """Counts `size` bytes out."""
        self.used_bytes -= size
        if self._whole is not None:
            self._whole.give_back(size)

    def _fits(self, size: int, bound: int) -> bool:
        if self.used_bytes + size > bound:
            for save in list(self.reclaimers):  # one that cannot reach its worker goes
                save()
        return self.used_bytes + size <= bound


def shared(shared_memory_max_bytes: int, releases: int) -> int:
    """What one of so many releases may take: all but half of what the others would have if all had the same."""
    return shared_memory_max_bytes * (releases + 1) // (2 * releases) if releases > 1 else shared_memory_max_bytes
