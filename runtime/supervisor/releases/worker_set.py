"""The workers of one release, which are started together, recycled one at a time, and retired together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.supervisor.processes.recycling import MEMORY_CHECK_S, Recycling
from runtime.supervisor.processes.worker import WorkerOwner, WorkerProcess
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState


class WorkerSet:
    """The workers of one release, including those that are being retired.

    Args:
        owner: The release, which is notified about every worker.
        count: Number of workers that serve at once.
        max_bytes: Private memory above which a worker is recycled; 0 disables it.
        max_requests: Number of requests after which a worker is recycled; 0 disables it.
        next_generation: Returns the generation of the first routing table without a worker that is retired now.

    Attributes:
        processes: All workers that have not stopped.
    """

    def __init__(self, owner: WorkerOwner, count: int, max_bytes: int, max_requests: int, next_generation: Callable[[], int]) -> None:
        self._owner = owner
        self._count = count
        self._max_bytes, self._max_requests = max_bytes, max_requests
        self._next_generation = next_generation
        self._template: WorkerTemplate | None = None  # while they run
        self._recycling: Recycling | None = None  # only while they run and a limit is set
        self._memory_timer: asyncio.TimerHandle | None = None
        self.processes: list[WorkerProcess] = []

    @property
    def sockets(self) -> list[str]:
        """Returns the sockets of the workers that are ready."""
        return [str(worker.run.socket_path) for worker in self.processes if worker.state is WorkerState.READY]

    @property
    def missing(self) -> int:
        """Returns the number of workers that should be ready but are not."""
        return max(0, self._count - len(self.sockets)) if self._template is not None else 0

    @property
    def pids(self) -> list[int]:
        """Returns the process ids of the workers that run now."""
        return [worker.pid for worker in self.processes if worker.pid is not None]

    @property
    def restarts(self) -> int:
        """Returns the number of worker restarts."""
        return sum(worker.restarts for worker in self.processes)

    def start(self, template: WorkerTemplate) -> None:
        """Starts the workers."""
        self._template = template
        started = [WorkerProcess(template, self._owner) for _ in range(self._count)]
        self.processes += started
        for worker in started:
            worker.start()
        if self._max_bytes or self._max_requests:
            self._recycling = Recycling(self._owner, self._max_bytes, self._max_requests)
        if self._max_bytes:
            self._schedule_memory_check()

    def stop(self) -> None:
        """Retires every worker, and stops recycling."""
        self._template = self._recycling = None
        if self._memory_timer is not None:
            self._memory_timer.cancel()
            self._memory_timer = None
        self.retire_all()

    def retire_all(self) -> None:
        """Retires every worker that is not retired yet."""
        for worker in self.processes:
            if worker.is_wanted:
                worker.retire(self._next_generation())

    def retire_recycled(self) -> None:
        """Retires the worker whose replacement is ready."""
        if self._recycling is not None and (old := self._recycling.pop_replaced_worker()) is not None:
            old.retire(self._next_generation())

    def recycle_due_worker(self) -> None:
        """Starts the replacement of a worker that is over a limit, unless a worker is already being replaced."""
        if self._recycling is None or self._template is None:
            return
        if (replacement := self._recycling.start_replacement(self._template.title, self.processes, self._template)) is not None:
            self.processes.append(replacement)
            replacement.start()
            self._owner.changed()

    def drop_stopped(self) -> None:
        """Forgets the workers that have stopped."""
        self.processes = [worker for worker in self.processes if worker.state is not WorkerState.STOPPED]

    def _schedule_memory_check(self) -> None:
        self._memory_timer = asyncio.get_running_loop().call_later(MEMORY_CHECK_S, self._check_memory)

    def _check_memory(self) -> None:
        self._schedule_memory_check()
        self.recycle_due_worker()
