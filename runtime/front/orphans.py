"""What workers had started beside themselves when the supervisor was killed, which else ends it with them. Runs in a front door.

The kernel ends a worker with its supervisor, but not what that worker started. A front door outlives both for a moment, and each worker
leads a process group and a session of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


class OrphanReaper:
    """The groups of the workers that this front door knows."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._groups: set[int] = set()

    def track_worker(self, pid: int) -> None:
        """A worker. One that our parent did not start as it does, such as the author's own process, is left alone."""
        self._groups = {each for each in self._groups if _stat(each)}  # of others the parent has seen to the rest
        found = _stat(pid)
        if found is not None and found[1:] == (self._parent, pid, pid):
            self._groups.add(pid)

    def kill_orphans(self) -> None:
        """The parent is gone: SIGKILL to what is left of groups whose leaders are, too. While there is any, its number is nobody else's."""
        for group in self._groups:
            found = _stat(group)
            if found is None or found[0] == "Z":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """State, parent, group and session; None where there is no such process."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    parent, group, session = map(int, numbers)
    return state, parent, group, session
