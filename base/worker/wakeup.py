"""Wakes the loop of a worker from other threads and from signal handlers."""

from __future__ import annotations

import os
import threading


class Wakeup:
    """An eventfd that is readable after `wake`, until `clear`."""

    def __init__(self) -> None:
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        # Prevents this: thread A reads `_fd`, B closes it, and A writes to the closed descriptor, or to another file that got its number.
        # Reentrant, since a signal may arrive during `close`.
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

    def on_forked(self) -> None:
        """Closes the copy of the descriptor in a forked child, where the lock may be held by a thread that does not exist there."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        """Closes the descriptor. Idempotent."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1
