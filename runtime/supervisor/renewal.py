"""A worker that has grown too large, and the one that is started in its place. Runs in the supervisor."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from runtime.supervisor.release import WorkerState
from runtime.supervisor.workers import Launch, Owner, WorkerProcess

log = logging.getLogger(__name__)

LOOK_S = 2.0
"""Between two looks at what workers hold; reading it takes microseconds, and a leak takes minutes."""


def own_bytes(pid: int) -> int:
    """Memory that is this process's alone, without segments and files; 0 where it is gone."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return 1024 * int(line.split()[1])
    return 0


class Renewal:
    """One worker of a release at a time is replaced: the new one is ready before the old one takes nothing new.

    Args:
        owner: of both.
        max_bytes: own memory of a worker that is to be replaced.
    """

    def __init__(self, owner: Owner, max_bytes: int) -> None:
        self._owner = owner
        self._max_bytes = max_bytes
        self._old: WorkerProcess | None = None
        self._new: WorkerProcess | None = None

    def look(self, title: str, workers: Sequence[WorkerProcess], launch: Launch) -> WorkerProcess | None:
        """Begins to replace the first that is too large. Gives the new one, not yet started; None where there is nothing to do now."""
        if self._new is not None:
            return None
        for worker in workers:
            if worker.state is WorkerState.READY and worker.pid and (held := own_bytes(worker.pid)) > self._max_bytes:
                log.warning("%s: worker %d holds %.0f MB (worker_renew_bytes); another one takes its place", title, worker.pid, held / 1e6)
                self._old, self._new = worker, WorkerProcess(launch, self._owner)
                return self._new
        return None

    def relieved(self) -> WorkerProcess | None:
        """The old one, once the new one is ready: it is to be retired."""
        if self._new is None or (self._new.is_wanted and self._new.state is not WorkerState.READY):
            return None
        old, ready = self._old, self._new.state is WorkerState.READY
        self._old = self._new = None
        return old if ready and old is not None and old.is_wanted else None
