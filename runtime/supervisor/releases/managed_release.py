"""One release, or base, at run time: its state machine, and the workers, files and timers that follow it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from base.ipc.control import Ready
from base.ipc.front_door_control import Route
from base.ipc.release_spec import ReleaseSpec
from runtime.pex.cache.store import AdmittedPex, UnpackedBase
from runtime.pex.file import PexFile
from runtime.supervisor.processes.worker import WorkerFailure
from runtime.supervisor.releases.job_worker_set import JobWorkerSet
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.releases.release_files import ReleaseFiles
from runtime.supervisor.releases.rollout_timers import RolloutTimers
from runtime.supervisor.releases.worker_check import spec_mismatch, worker_mismatch
from runtime.supervisor.releases.worker_set import WorkerSet
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import ReleaseAction, ReleaseEvent, ReleaseState
from runtime.supervisor.status.state import timestamp

log = logging.getLogger(__name__)


class ManagedRelease:
    """A release, or a base, with its files, workers and timers. Only `step` changes its state. It is the `WorkerOwner` of its workers.

    Args:
        release: The data of the release that decisions use.
        context: Parts of the supervisor that are needed to start it.
        changed: Called after every change.
        next_generation: Returns the generation of the first routing table without a worker that is retired now.
        next_job_generation: As before, for the routing table of the job runner.
        initial: Whether its file was in dist/ when Pexdock started. The start is over once all such files are ready or refused.

    Attributes:
        files: The files from which it runs.
        workers: Its workers that answer requests.
        job_workers: Its workers that run jobs.
        timers: Its probation and its warm standby.
        since: Wall clock time of its last change of state.
        worker_warnings: Warnings that a worker sent when it became ready.
        worker_log: Last lines of the worker that failed last.
        remark: Remark about its rollout for people; empty for none.
    """

    def __init__(
        self,
        release: Release,
        context: ReleaseContext,
        changed: Callable[[], None],
        next_generation: Callable[[], int],
        next_job_generation: Callable[[], int],
        *,
        initial: bool,
    ) -> None:
        settings = context.settings
        self.release = release
        self.initial = initial
        self.changed = changed
        self.files = ReleaseFiles()
        self.workers = WorkerSet(
            self, settings.workers_per_release, int(settings.worker_recycle_bytes), settings.worker_recycle_requests, next_generation
        )
        self.job_workers = JobWorkerSet(self, settings.probation_crashes_max, next_job_generation)
        self.timers = RolloutTimers(release, changed)
        self.since = timestamp()
        self.worker_warnings: list[str] = []
        self.worker_log: list[str] = []
        self.remark = ""
        self._context = context
        self._argv: list[str] = []
        self._was_accepted = False

    # ---- state

    def step(self, event: ReleaseEvent, reason: str = "") -> None:
        """Moves the release to its next state, and starts or stops its workers. The caller unpacks its files."""
        action = self.release.machine.step(event)
        self.since = timestamp()
        self.release.reason = reason
        match action:
            case ReleaseAction.START_WORKERS:
                self._start_workers()
            case ReleaseAction.STOP_WORKERS:
                self.release.was_ready = False
                self.timers.stop()
                self.workers.stop()
                self.job_workers.stop()
            case _:
                pass
        self.changed()

    def leave(self, event: ReleaseEvent, reason: str) -> None:
        """Moves the release to REFUSED, FAILED or STOPPED, unless it is already in one of these states."""
        if self.release.machine.allows(event):
            reason = reason.removeprefix(f"{self.release.file}: ")  # the log line and the table already name the file
            if event is not ReleaseEvent.STOPPED:
                log.error("%s (%s): %s: %s", self.release.title, self.release.file, event, reason)
            self.step(event, reason)

    def set_admitted(self, admitted: AdmittedPex, pex: PexFile) -> None:
        """Sets its verified copy in the cache."""
        self.files.admitted, self.files.pex = admitted, pex
        self.release.identity = Identity(pex.kind, pex.name, pex.version, admitted.sha256)
        self.step(ReleaseEvent.ADMITTED)

    def set_base(self, base: UnpackedBase, warnings: list[str]) -> None:
        """Sets the base on which it runs."""
        self.files.base, self.files.warnings = base, warnings
        for warning in warnings:
            log.warning("%s: %s", self.release.title, warning)
        self.step(ReleaseEvent.BASE_CHOSEN)

    def set_unpacked(self, argv: list[str]) -> None:
        """Marks it as unpacked, and starts its workers with `argv`. A base has no workers."""
        self._argv = argv
        self.step(ReleaseEvent.UNPACKED)

    def _start_workers(self) -> None:
        self.release.was_ready = self.release.keeps_failing = False
        self.release.crash_count, self.worker_log, self.remark = 0, [], ""
        if self.release.is_model:
            template = self._context.worker_template(self.release, self._argv)
            self.release.pending_workers = self._context.settings.workers_per_release
            self.workers.start(template)
            self.job_workers.start(self._context.job_worker_template(template))

    # ---- events of its workers (processes.worker.WorkerOwner)

    @property
    def loaded(self) -> bool:
        """Returns whether a worker of this release was ever ready."""
        return self._was_accepted

    @property
    def start_is_urgent(self) -> bool:
        """Returns whether clients may be waiting for it: it served before, or Pexdock is still starting."""
        return self.loaded or self.initial

    def on_described(self, spec: ReleaseSpec) -> None:
        """Notes the paths of the release, which are then known before it serves. Refuses the release if it does not match the file."""
        assert self.files.pex is not None
        if mismatch := spec_mismatch(spec, self.files.pex):
            self.leave(ReleaseEvent.REFUSED, mismatch)
        elif self.release.spec is None:
            self.release.spec = spec
            self.changed()

    def accept_worker(self, ready: Ready) -> bool:
        """Accepts a worker that is ready if it matches the file. Otherwise refuses the release, which stops the worker."""
        if mismatch := self.mismatch(ready):
            self.leave(ReleaseEvent.REFUSED, mismatch)
            return False
        log.info("%s: ready at %s", self.release.title, ", ".join(endpoint.path for endpoint in ready.release.endpoints))
        self._was_accepted = True
        self.release.spec, self.release.was_ready, self.release.keeps_failing = ready.release, True, False
        self.release.pending_workers = max(0, self.release.pending_workers - 1)
        self.worker_warnings = ready.warnings
        self.since = timestamp()
        return True

    def mismatch(self, ready: Ready) -> str:
        """Returns why a worker does not match the file; empty if it does."""
        assert self.files.pex is not None
        return worker_mismatch(ready, self.files.pex)

    def on_worker_exit(self, failure: WorkerFailure) -> None:
        """Counts the crash of a worker. The release has failed if no worker is left and it cannot be restarted."""
        self.release.reason, self.worker_log = failure.reason, failure.last_lines
        self.release.pending_workers = int(self.release.warm_standby and not self.is_up)  # a rollback waits for its restart
        if self.timers.probation is not None:
            self.timers.probation.record_crash(failure.reason)
        if not self.release.was_ready:
            self.release.crash_count += 1
            self.release.keeps_failing = self.release.crash_count >= self._context.settings.probation_crashes_max
        if failure.final and not self.is_up:
            self.leave(ReleaseEvent.FAILED, failure.reason)
        self.changed()

    def on_requests_sent(self) -> None:
        """Recycles a worker that has reached its limit of requests."""
        self.workers.recycle_due_worker()

    # ---- queries

    @property
    def has_workers(self) -> bool:
        """Returns whether a worker is left, even if it is being retired."""
        return bool(self.workers.processes or self.job_workers.processes)

    @property
    def may_become_ready(self) -> bool:
        """Returns whether it may still become ready, or be refused, without a change in dist/."""
        return self.release.is_starting or (self.release.state is ReleaseState.WAITING and self.files.base_pending)

    @property
    def is_up(self) -> bool:
        """Returns whether one of its workers is ready."""
        return bool(self.workers.sockets)

    def make_job_route(self) -> Route:
        """Returns its entry in the routing table of the job runner."""
        assert self.release.spec is not None
        workers = self.job_workers
        return Route(self.release.spec, workers.sockets, self.release.sha256, failure=workers.failure, failed_starts=workers.failed_starts)

    def make_route(self) -> Route:
        """Returns its entry in the routing table."""
        assert self.release.spec is not None
        probation = self.timers.probation
        limit = None if probation is None else probation.rules.failure_limit
        return Route(self.release.spec, self.workers.sockets, self.release.sha256, limit)
