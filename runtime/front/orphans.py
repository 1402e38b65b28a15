"""Kills processes that workers have started if the supervisor is killed, which otherwise ends them. Runs in a front door.

When the supervisor dies, the kernel kills its workers, but not what these have started. A front door outlives both for a moment.
Each worker leads a process group and a session of its own.
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
        """Tracks a worker. One that the supervisor did not start, such as the author's own process, is ignored."""
        self._groups = {each for each in self._groups if _stat(each)}  # the supervisor has ended the groups of the others
        found = _stat(pid)
        if found is not None and found[1:] == (self._parent, pid, pid):
            self._groups.add(pid)

    def kill_orphans(self) -> None:
        """Kills the rest of groups whose workers are dead. The number of a group that has members is not reused."""
        for group in self._groups:
            found = _stat(group)
            if found is None or found[0] == "Z":
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(group, signal.SIGKILL)


def _stat(pid: int) -> tuple[str, int, int, int] | None:
    """Returns state, parent, group and session of a process; None if it does not exist."""
    try:
        state, *numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:4]
    except (OSError, ValueError):
        return None
    parent, group, session = map(int, numbers)
    return state, parent, group, session
