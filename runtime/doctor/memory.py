"""Checks the memory of the machine against what Pexdock uses and may use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from runtime.doctor.finding import Finding, ok, problem, warning
from runtime.settings import Settings
from runtime.supervisor.status.state import State
from runtime.text_table import format_size

_SUBJECT = "memory"
_CGROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 2**60
"""Values above this mean no limit in cgroup version 1."""


def check_memory(settings: Settings, state: State) -> Finding:
    """Checks that the running processes, with full segments, fit into memory."""
    limit, source = _limit()
    pids = [state.pid, *state.front_door_pids, *(pid for each in state.releases for pid in each.worker_pids + each.job_worker_pids)]
    used = sum(_pss_bytes(pid) for pid in pids if pid is not None)
    segments = int(settings.shared_memory_max_bytes)
    usage = f", processes use {format_size(used)}" if used else ""
    text = f"{format_size(limit)} ({source}); segments may take up to {format_size(segments)}{usage}"
    if used > 0.95 * limit or segments > limit:
        advice = "add memory, or lower shared_memory_max_bytes, workers_per_release or the number of models"
        return problem(_SUBJECT, text, advice)
    if used + segments > limit:
        advice = "processes and full segments together do not fit, so the kernel may kill one: add memory, or lower shared_memory_max_bytes"
        return warning(_SUBJECT, text, advice)
    return ok(_SUBJECT, text)


def _limit() -> tuple[int, str]:
    total = int(re.search(r"MemTotal: +([0-9]+) kB", Path("/proc/meminfo").read_text())[1]) * 1024  # type: ignore[index]
    limit = min(_cgroup_limits(), default=total)
    return (limit, "of the cgroup") if limit < total else (total, "of the machine")


def _cgroup_limits() -> Iterator[int]:
    """Yields the limits of this process's cgroup and of its parents; in a container its own cgroup is mounted as the root."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        root, name = (_CGROUPS / "memory", "memory.limit_in_bytes") if controllers else (_CGROUPS, "memory.max")
        folder = root / path.strip("/")
        for parent in (folder, *folder.parents):
            if parent.is_relative_to(root):
                yield from _read_limit(parent / name)


def _read_limit(path: Path) -> Iterator[int]:
    try:
        value = int(path.read_text())
    except (OSError, ValueError):  # missing, or "max"
        return
    if value < _NO_LIMIT_BYTES:
        yield value


def _pss_bytes(pid: int) -> int:
    """Returns the proportional set size of a process; 0 if it is gone."""
    try:
        found = re.search(r"^Pss: +([0-9]+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) * 1024 if found else 0
