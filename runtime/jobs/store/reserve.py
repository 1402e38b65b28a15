"""Room that a full disk still has for the database, so that jobs can be cancelled and expire there, which makes room for all else."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path


class DiskReserve:
    """A file that takes room, and gives it back while the database needs it. All calls block.

    Args:
        path: The file, whose folder exists.
        size: Its length in bytes; 0 for no reserve.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._path = path
        self._size = size

    def lend(self) -> bool:
        """Removes the file if the disk has less room than it takes. Returns whether that is so.

        Raises:
            OSError: The disk cannot be used.
        """
        is_scarce = shutil.disk_usage(self._path.parent).free < self._size
        if is_scarce:
            self._path.unlink(missing_ok=True)
        return is_scarce

    def restore(self) -> None:
        """Makes the file as long as it should be, or as the disk lets it."""
        with contextlib.suppress(OSError):  # the next transaction tries again
            present = self._path.stat().st_size if self._path.exists() else 0
            size = min(self._size, present + shutil.disk_usage(self._path.parent).free)
            if size > present:
                with self._path.open("ab") as file:
                    os.posix_fallocate(file.fileno(), 0, size)
