"""Kills the child processes of workers after the supervisor was killed. Runs in a front door.

Normally the supervisor ends these processes. When it dies, the kernel kills its workers, but not their children. A front door outlives both
for a moment. Each worker leads its own process group and session.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


class OrphanReaper:
    """Tracks the process groups of the workers that this front door knows."""

    def __init__(self) -> None:
        self._parent = os.getppid()
        self._groups: set[int] = set()

    def track_worker(self, pid: int) -> None:
        """Tracks a worker. Ignores a worker that the supervisor did not start, such as the author's own process."""
        self._groups = {each for each in self._groups if _stat(each)}  # the supervisor has ended the groups of the others
        found = _stat(pid)
        if found is not None and found[1:] == (self._parent, pid, pid):
            self._groups.add(pid)

    def kill_orphans(self) -> None:
        """Kills the remaining processes of groups whose worker is dead. The kernel reuses no group number while the group has members."""
        for group in self._groups:
            found = _stat(group)
            if found is None or found[0] == "Z":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """Returns the state, parent, group and session of a process; None if it does not exist."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    parent, group, session = map(int, numbers)
    return state, parent, group, session
