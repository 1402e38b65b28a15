"""Reaps and kills the descendants of this process."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def reap_process_group(group: int) -> None:
    """Reaps the remaining processes of a group that were reparented to this process."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            pass


def kill_descendants() -> None:
    """Kills all descendants that this process has not reaped, such as a tool for which a thread waits."""
    found: list[int] = []
    waiting = _children_of(os.getpid())
    while waiting:
        # If a process is killed before its children are known, they go to process 1; if it runs on, it may start more of them.
        found.append(waiting.pop())
        _send_signal(found[-1], signal.SIGSTOP)
        waiting += _children_of(found[-1])
    for pid in found:
        _send_signal(pid, signal.SIGKILL)


def _send_signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # the process has exited meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found
