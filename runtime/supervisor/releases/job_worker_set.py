"""The workers of one release that run jobs, apart from those that answer requests."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from base.ipc.control import Ready
from base.ipc.release_spec import ReleaseSpec
from runtime.supervisor.processes.worker import WorkerFailure, WorkerProcess
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState

log = logging.getLogger(__name__)

_HAS_JOBS = {WorkerState.READY, WorkerState.RETIRED, WorkerState.STOPPING}
"""States of workers that may have a job."""


class JobRelease(Protocol):
    """The part of a release that its job workers use."""

    @property
    def loaded(self) -> bool:
        """True if any of its workers was ready before."""

    def changed(self) -> None:
        """Handles a change of a worker's state."""

    def mismatch(self, ready: Ready) -> str:
        """Returns why a worker is not one of this release; empty if it is."""


class JobWorkerSet:
    """The job workers of one release, including those that are being retired.

    It is the `WorkerOwner` of its workers, so that they count neither for the readiness of the release nor for its probation.

    Args:
        release: Their release.
        crashes_max: Number of crashes in a row, before any worker is ready, after which they count as failed.
        next_generation: Returns the generation of the first routing table of the job runner without a worker that is retired now.

    Attributes:
        processes: All workers that have not stopped.
        failure: Why no worker can start, after several attempts; empty otherwise.
        failed_starts: Number of attempts for which that was so.
    """

    def __init__(self, release: JobRelease, crashes_max: int, next_generation: Callable[[], int]) -> None:
        self._release = release
        self._crashes_max = crashes_max
        self._crashes = 0
        self.failure, self.failed_starts = "", 0
        self._next_generation = next_generation
        self._template: WorkerTemplate | None = None  # while the release runs
        self._count = self._idle = 0
        self.processes: list[WorkerProcess] = []

    @property
    def sockets(self) -> list[str]:
        """Returns the sockets of the workers that are ready."""
        return [str(worker.run.socket_path) for worker in self.processes if worker.state is WorkerState.READY]

    @property
    def pids(self) -> list[int]:
        """Returns the process ids of the workers that run now."""
        return [worker.pid for worker in self.processes if worker.pid is not None]

    @property
    def count(self) -> int:
        """Number of workers that are wanted."""
        return sum(worker.is_wanted for worker in self.processes)

    def start(self, template: WorkerTemplate) -> None:
        """Starts the workers that are wanted, now that the release runs."""
        self._template = template
        self.resize(self._count)

    def stop(self) -> None:
        """Retires every worker, since the release no longer runs."""
        self._template = None
        self._retire(self.count)

    def resize(self, count: int, busy: Collection[str] = (), idle: int = 0) -> None:
        """Starts or retires workers until `count` of them are left.

        Args:
            count: Number of workers.
            busy: Sockets of workers that have a job, and so are retired last.
            idle: Number of those of `count` that no job needs. If a worker exits, another one takes its place, and none is started.
        """
        self._count, self._idle = count, idle
        if self._template is None:
            return
        self._retire(self.count - count, busy)
        started = [WorkerProcess(self._template, self) for _ in range(count - self.count)]
        self.processes += started
        for worker in started:
            worker.start()

    def replace_all(self) -> None:
        """Kills the workers that may have a job of a job runner that has exited, since it begins anew, and starts others in their place."""
        for worker in [each for each in self.processes if each.state in _HAS_JOBS]:
            if worker.is_wanted:
                worker.retire(self._next_generation())
            worker.run.kill("its job runner has exited")
        self.resize(self._count - self._idle)

    def forget_failure(self) -> None:
        """Counts crashes anew, for a job that waits for a worker from now on."""
        self._crashes, self.failure = 0, ""

    def drop_stopped(self) -> None:
        """Forgets the workers that have stopped."""
        self.processes = [worker for worker in self.processes if worker.state is not WorkerState.STOPPED]

    def _retire(self, count: int, busy: Collection[str] = ()) -> None:
        wanted = [worker for worker in self.processes if worker.is_wanted]
        wanted.sort(key=lambda worker: (str(worker.run.socket_path) in busy, worker.state is WorkerState.READY))
        for worker in wanted[: max(0, count)]:
            worker.retire(self._next_generation())

    # ---- events of its workers (processes.worker.WorkerOwner)

    @property
    def loaded(self) -> bool:
        """True if any worker of the release was ready before."""
        return self._release.loaded

    @property
    def start_is_urgent(self) -> bool:
        """True, since a job waits for it. It gets its niceness once it is ready."""
        return True

    def on_described(self, spec: ReleaseSpec) -> None:
        """Does nothing: the other workers describe the release."""

    def accept_worker(self, ready: Ready) -> bool:
        """Returns whether a worker is one of the release. If not, it is retired."""
        mismatch = self._release.mismatch(ready)
        self.forget_failure()
        if mismatch:
            log.error("a job worker is stopped: %s", mismatch)
            self._retire(self.count)
        return not mismatch

    def on_worker_exit(self, failure: WorkerFailure) -> None:
        """Counts crashes in a row, and replaces no worker that no job needs. The job runner finds out by itself what becomes of a job."""
        self._crashes += not self.sockets
        if failure.final or self._crashes >= self._crashes_max:
            self.failure, self.failed_starts = failure.reason, self.failed_starts + 1
        if self._idle:
            self.resize(self._count - 1, idle=self._idle - 1)

    def changed(self) -> None:
        """Handles a change of a worker's state."""
        self._release.changed()

    def on_requests_sent(self) -> None:
        """Does nothing: a job worker lives no longer than there are jobs."""
