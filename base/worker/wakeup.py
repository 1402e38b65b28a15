"""Wakes the loop of a worker from other threads and from signal handlers."""

from __future__ import annotations

import os
import threading


class Wakeup:
    """An eventfd that is readable after `wake`, until `clear`."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # A looks at `_fd`, B closes it, A writes into it or into a file that has its number now. Reentrant, since a signal may arrive
        # during `close`.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self._fd

    def wake(self) -> None:
        """Makes the descriptor readable. Does nothing after `close`."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def clear(self) -> bool:
        """Makes the descriptor unreadable again. Returns False if nothing had woken it."""
        try:
            os.eventfd_read(self._fd)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Closes the descriptor. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
