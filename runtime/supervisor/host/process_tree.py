"""The processes that this one has started, directly or not."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path


def reap_process_group(group: int) -> None:
    """Reaps what is left of a process group and was reparented to this process."""
    with contextlib.suppress(ChildProcessError):
        while os.waitid(os.P_PGID, group, os.WEXITED | os.WNOHANG) is not None:
            pass


def kill_descendants() -> None:
    """Kills everything that this process has started, directly or not, and has not reaped, such as a tool that a thread waits for."""
    found: list[int] = []
    waiting = _children_of(os.getpid())
    while waiting:
        # A process that is killed before its children are known leaves them to process 1; one that runs on may start more meanwhile.
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
