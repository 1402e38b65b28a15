"""Lowers the scheduling priority of processes that start or run jobs, so that serving ones go first. Runs in the supervisor.

Every process may raise its niceness, but lowering it again requires the capability CAP_SYS_NICE or the limit RLIMIT_NICE; without them the
niceness is not changed. If the kernel schedules sessions as groups (autogroup), niceness counts only within a session, and each worker
leads one. Every process may raise and lower the niceness of its group, though not often.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
from pathlib import Path

log = logging.getLogger(__name__)

_CAP_SYS_NICE = 23
_PASSES = 5
_RETRY_S = 0.2
"""Delay between retries in seconds. The kernel accepts one change of a group's niceness per 0.1 s from all unprivileged processes."""
_RETRIES = 50


def can_restore_niceness() -> bool:
    """Returns whether this process may lower a niceness again that it has raised."""
    caps = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if int(caps.split()[1], 16) >> _CAP_SYS_NICE & 1:
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return limit == resource.RLIM_INFINITY or 20 - limit <= os.getpriority(os.PRIO_PROCESS, 0)


def lower_priority(pid: int, extra: int) -> None:
    """Gives a process extra niceness for good, with its threads, its descendants, and its session, which it leads."""
    _set_all(pid, min(os.getpriority(os.PRIO_PROCESS, 0) + extra, 19))
    group = _group_niceness(pid)
    if group is not None:
        _set_group_niceness(pid, min(group + extra, 19))


class LoweredPriority:
    """A process that was just started, with extra niceness until `restore` is called.

    Args:
        pid: Id of a child that leads its session.
        extra: Extra niceness; 0 changes nothing.
    """

    def __init__(self, pid: int, extra: int) -> None:
        self._pid = pid
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0)
        self._group_niceness = _group_niceness(pid)
        self._is_lowered = extra > 0 and can_restore_niceness()
        if self._is_lowered:
            _set_niceness(pid, min(self._niceness + extra, 19))
        if extra > 0 and self._group_niceness is not None:
            self._group_is_lowered = _set_group_niceness(pid, min(self._group_niceness + extra, 19))
        else:
            self._group_is_lowered = False

    def restore(self) -> None:
        """Restores the niceness of the process, its threads and its descendants. Idempotent."""
        if self._is_lowered:
            self._is_lowered = False
            _set_all(self._pid, self._niceness)
        if self._group_is_lowered:
            self._group_is_lowered = False
            self._restore_group(_RETRIES)

    def _restore_group(self, retries: int) -> None:
        assert self._group_niceness is not None
        if not _set_group_niceness(self._pid, self._group_niceness) and retries and Path(f"/proc/{self._pid}").exists():
            asyncio.get_running_loop().call_later(_RETRY_S, self._restore_group, retries - 1)


def _set_all(pid: int, niceness: int) -> None:
    """Sets the niceness of a process, its threads and its descendants."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.setpriority(os.PRIO_PGRP, pid, niceness)
    for _ in range(_PASSES):  # a thread that is started meanwhile inherits the niceness of its parent thread
        if not sum(_set_niceness(thread, niceness) for thread in _threads_of(pid)):
            break


def _threads_of(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - only names are needed
    return []


def _set_niceness(thread: int, niceness: int) -> bool:
    """Sets the niceness of one thread. Returns whether it has changed."""
    try:
        if os.getpriority(os.PRIO_PROCESS, thread) == niceness:
            return False
        os.setpriority(os.PRIO_PROCESS, thread, niceness)
    except ProcessLookupError:  # it has exited meanwhile
        return False
    except PermissionError as exc:
        log.warning("cannot set the niceness of process %d: %s", thread, exc)
        return False
    return True


def _group_niceness(pid: int) -> int | None:
    """Returns the niceness of a process's session; None if the kernel does not use it. The file ends with `nice 0`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1":
            return int(Path(f"/proc/{pid}/autogroup").read_text().split()[2])
    return None


def _set_group_niceness(pid: int, niceness: int) -> bool:
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))
    except OSError:
        return False
    return True
