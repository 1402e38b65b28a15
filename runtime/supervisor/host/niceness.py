"""The priority of a process while it starts: lower than that of those that serve. Runs in the supervisor.

A process may always be made nicer, and back only with the capability or the limit for it (CAP_SYS_NICE, RLIMIT_NICE): without, it is left
as it is. Where the kernel schedules sessions as groups (autogroup), niceness counts within a session alone, and each worker leads one; the
group's own niceness may be changed both ways by everybody, though not often.
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
_AGAIN_S = 0.2
"""The kernel takes one change of a group's niceness in 0.1 s from all that are not privileged."""
_TRIES = 50


def can_restore_niceness() -> bool:
    """Whether what was made nicer may be set back to the niceness of this process."""
    caps = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("CapEff:"))
    if int(caps.split()[1], 16) >> _CAP_SYS_NICE & 1:
        return True
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    return limit == resource.RLIM_INFINITY or 20 - limit <= os.getpriority(os.PRIO_PROCESS, 0)


class LoweredPriority:
    """A process that was just started, made nicer by `by` until `restore` is called.

    Args:
        pid: of a child that leads its session.
        by: 0 leaves it as it is.
    """

    def __init__(self, pid: int, by: int) -> None:
        self._pid = pid
        self._nice = os.getpriority(os.PRIO_PROCESS, 0)
        self._group = _group_of(pid)
        self._is_lowered = by > 0 and can_restore_niceness()
        if self._is_lowered:
            _renice(pid, min(self._nice + by, 19))
        if by > 0 and self._group is not None:
            self._group_is_lowered = _set_group(pid, min(self._group + by, 19))
        else:
            self._group_is_lowered = False

    def restore(self) -> None:
        """Set it back, with all threads that it has by now and what it started."""
        if self._is_lowered:
            self._is_lowered = False
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.setpriority(os.PRIO_PGRP, self._pid, self._nice)
            for _ in range(_PASSES):  # a thread that is started meanwhile has the niceness of the one that started it
                if not sum(_renice(task, self._nice) for task in _tasks(self._pid)):
                    break
        if self._group_is_lowered:
            self._group_is_lowered = False
            self._restore_group(_TRIES)

    def _restore_group(self, tries: int) -> None:
        assert self._group is not None
        if not _set_group(self._pid, self._group) and tries and Path(f"/proc/{self._pid}").exists():
            asyncio.get_running_loop().call_later(_AGAIN_S, self._restore_group, tries - 1)


def _tasks(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry) for entry in os.listdir(f"/proc/{pid}/task")]  # noqa: PTH208 - names are all that is wanted
    return []


def _renice(task: int, nice: int) -> bool:
    """Whether that changed anything."""
    try:
        if os.getpriority(os.PRIO_PROCESS, task) == nice:
            return False
        os.setpriority(os.PRIO_PROCESS, task, nice)
    except ProcessLookupError:  # it ended meanwhile
        return False
    except PermissionError as exc:
        log.warning("the priority of process %d cannot be set: %s", task, exc)
        return False
    return True


def _group_of(pid: int) -> int | None:
    """The niceness of its session, where that counts: the file ends with `nice 0`."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        if Path("/proc/sys/kernel/sched_autogroup_enabled").read_text().strip() == "1":
            return int(Path(f"/proc/{pid}/autogroup").read_text().split()[2])
    return None


def _set_group(pid: int, nice: int) -> bool:
    try:
        Path(f"/proc/{pid}/autogroup").write_text(str(nice))
    except OSError:
        return False
    return True
