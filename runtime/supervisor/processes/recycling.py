"""A worker that has grown too large or has worked for long enough, and the one that is started in its place. Runs in the supervisor."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from runtime.supervisor.processes.worker import WorkerOwner, WorkerProcess, WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState

log = logging.getLogger(__name__)

MEMORY_CHECK_S = 2.0
"""Between two looks at what workers hold; reading it takes microseconds, and a leak takes minutes."""

_TELLINGS = 20
"""So often front doors tell of a worker's requests before it is replaced; so it may have been sent a part more."""


def requests_sent_interval(max_requests: int) -> int:
    """Of how many requests at once front doors are to tell, where workers are replaced after `max_requests`; 0 is never."""
    return -(-max_requests // _TELLINGS)


def private_memory_bytes(pid: int) -> int:
    """Memory that is this process's alone, without segments and files; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


class Recycling:
    """One worker of a release at a time is replaced: the new one is ready before the old one takes nothing new.

    Args:
        owner: of both.
        max_bytes: own memory of a worker that is to be replaced; 0 for any.
        max_requests: that a worker was sent when it is to be replaced; 0 for any.
    """

    def __init__(self, owner: WorkerOwner, max_bytes: int, max_requests: int) -> None:
        self._owner = owner
        self._max_bytes, self._max_requests = max_bytes, max_requests
        self._old: WorkerProcess | None = None
        self._new: WorkerProcess | None = None

    def start_replacement(self, title: str, workers: Sequence[WorkerProcess], launch: WorkerTemplate) -> WorkerProcess | None:
        """Begins to replace the first that is due. Gives the new one, not yet started; None where there is nothing to do now."""
        if self._new is not None:
            return None
        for worker in workers:
            if worker.state is WorkerState.READY and worker.pid and (why := self._due(worker, worker.pid)):
                log.warning("%s: worker %d %s; another one takes its place", title, worker.pid, why)
                self._old, self._new = worker, WorkerProcess(launch, self._owner)
                return self._new
        return None

    def pop_replaced_worker(self) -> WorkerProcess | None:
        """The old one, once the new one is ready: it is to be retired."""
        if self._new is None or (self._new.is_wanted and self._new.state is not WorkerState.READY):
            return None
        old, ready = self._old, self._new.state is WorkerState.READY
        self._old = self._new = None
        return old if ready and old is not None and old.is_wanted else None

    def _due(self, worker: WorkerProcess, pid: int) -> str:
        """Why it is to be replaced; empty where it is not."""
        if self._max_requests and worker.requests_sent >= self._max_requests:
            return f"was sent {worker.requests_sent} requests (worker_recycle_requests)"
        if self._max_bytes and (held := private_memory_bytes(pid)) > self._max_bytes:
            return f"holds {held / 1e6:.0f} MB (worker_recycle_bytes)"
        return ""
