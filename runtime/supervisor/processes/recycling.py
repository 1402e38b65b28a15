"""Replaces a worker that uses too much memory or has received many requests, while the release serves. Runs in the supervisor."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from runtime.supervisor.processes.worker import WorkerOwner, WorkerProcess
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState

log = logging.getLogger(__name__)

MEMORY_CHECK_S = 2.0
"""Interval between two checks of the memory of workers, in seconds. A check takes microseconds, and a leak takes minutes."""

_REPORTS_PER_RECYCLE = 20
"""Number of reports of a front door up to the limit. A worker may have received a twentieth more requests when it is replaced."""


def requests_sent_interval(max_requests: int) -> int:
    """Returns the number of requests to a worker between two reports of a front door, by the limit of a worker; 0 for no reports."""
    return -(-max_requests // _REPORTS_PER_RECYCLE)


def private_memory_bytes(pid: int) -> int:
    """Returns the private memory of a process, without segments and files; 0 if the process does not exist."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


class Recycling:
    """Replaces the workers of a release one at a time: the new worker is ready before the old one is retired.

    Args:
        owner: The release.
        max_bytes: Recycle a worker above this much private memory; 0 disables it.
        max_requests: Recycle a worker after this many requests; 0 disables it.
    """

    def __init__(self, owner: WorkerOwner, max_bytes: int, max_requests: int) -> None:
        self._owner = owner
        self._max_bytes, self._max_requests = max_bytes, max_requests
        self._old: WorkerProcess | None = None
        self._new: WorkerProcess | None = None

    def start_replacement(self, title: str, workers: Sequence[WorkerProcess], template: WorkerTemplate) -> WorkerProcess | None:
        """Begins to replace the first worker that is over a limit.

        Returns:
            The new worker, not yet started; None if no worker is over a limit, or one is already being replaced.
        """
        if self._new is not None:
            return None
        for worker in workers:
            if worker.state is WorkerState.READY and worker.pid and (why := self._exceeded_limit(worker, worker.pid)):
                log.warning("%s: worker %d %s; starting a replacement", title, worker.pid, why)
                self._old, self._new = worker, WorkerProcess(template, self._owner)
                return self._new
        return None

    def pop_replaced_worker(self) -> WorkerProcess | None:
        """Returns the old worker, which the caller retires, once the new one is ready; None otherwise."""
        if self._new is None or (self._new.is_wanted and self._new.state is not WorkerState.READY):
            return None
        old, ready = self._old, self._new.state is WorkerState.READY
        self._old = self._new = None
        return old if ready and old is not None and old.is_wanted else None

    def _exceeded_limit(self, worker: WorkerProcess, pid: int) -> str:
        """Returns the reason to replace a worker; empty if it is within the limits."""
        if self._max_requests and worker.requests_sent >= self._max_requests:
            return f"was sent {worker.requests_sent} requests (worker_recycle_requests)"
        if self._max_bytes and (used := private_memory_bytes(pid)) > self._max_bytes:
            return f"uses {used / 1e6:.0f} MB (worker_recycle_bytes)"
        return ""
