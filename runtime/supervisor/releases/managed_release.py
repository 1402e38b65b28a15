"""One release with all that belongs to it while a supervisor runs: its file, its copy, its base, its workers. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from base.backoff import Backoff
from base.ipc.control import MetricsReport, Ready, ReleaseSpec, Route
from base.telemetry.recorder import metrics_environment
from runtime.pex.cache.store import AdmittedPex, PexCache, UnpackedBase
from runtime.pex.check import wire_mismatch
from runtime.pex.file import PexFile
from runtime.pex.trust.policy import Evidence, TrustPolicy
from runtime.settings import Settings
from runtime.supervisor.processes.child import child_environment
from runtime.supervisor.processes.recycling import MEMORY_CHECK_S, Recycling
from runtime.supervisor.processes.sandbox import Sandbox
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.processes.worker import WorkerFailure, WorkerProcess
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerState
from runtime.supervisor.rollout.probation import Probation
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import ReleaseAction, ReleaseEvent, ReleaseState
from runtime.supervisor.status.state import ReleaseReport, now

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ReleaseContext:
    """What every release needs to be unpacked and started."""

    store: PexCache
    settings: Settings
    run_path: Path
    report: Callable[[MetricsReport], None]
    starts: StartLimiter
    confinement: Sandbox
    trust: TrustPolicy | None = None

    def vouched(self, pex: Path) -> Path:
        """The file to go on with: `pex` itself, or, where not every pex is trusted, a copy of it that somebody vouches for. Blocks.

        Raises:
            PexRefused: it cannot be copied, or nobody vouches for it. Nothing of it was read but its bytes.
        """
        trust = self.trust
        if trust is None:
            return pex
        return self.store.admit(pex, lambda copy, sha256: log.info("%s: %s", pex.name, trust.verify(pex, copy, sha256))).path

    def launch(self, title: str, model: str, argv: list[str]) -> WorkerTemplate:
        """How the workers of one release are started."""
        settings = self.settings
        cache_path = self.confinement.cache_folder(settings.cache_path)
        places = {"PEXDOCK_ARTIFACTS_PATH": str(settings.artifacts_path), "PEXDOCK_CACHE_PATH": str(cache_path)}
        env = child_environment(self.confinement.environment_for(model, os.environ), places | metrics_environment(settings.measuring))
        backoff = Backoff(settings.restart_delay_min_s, settings.restart_delay_max_s)
        return WorkerTemplate(
            title,
            argv,
            env,
            self.run_path,
            settings.start_timeout_s,
            settings.drain_s,
            backoff,
            self.report,
            self.starts,
            settings.start_nice,
            self.confinement,
        )


class ManagedRelease:
    """A release, or a base, and what it owns. Its state moves through `step` alone.

    Args:
        release: what is decided about.
        plant: what is needed to start it.
        changed: called after every change.
        next_generation: of the next routing table, which will no longer name a worker that is retired now.
        initial: it counts for whether the start is over.
    """

    def __init__(
        self, release: Release, plant: ReleaseContext, changed: Callable[[], None], next_generation: Callable[[], int], *, initial: bool
    ) -> None:
        self.release = release
        self.initial = initial
        self.pex: PexFile | None = None
        self.admitted: AdmittedPex | None = None
        self.base: UnpackedBase | None = None
        self.base_pending = False  # the base that it needs is still being unpacked
        self.workers: list[WorkerProcess] = []
        self.warnings: list[str] = []
        self._worker_warnings: list[str] = []
        self.doubted: Evidence | None = None  # nobody vouches for it, judged by this; None where that is not so
        self.changed = changed
        self._plant = plant
        self._next_generation = next_generation
        self._argv: list[str] = []
        self._log: list[str] = []
        self._since = now()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._launch: WorkerTemplate | None = None
        self._renewal: Recycling | None = None  # where workers are replaced while they serve
        self.probation: Probation | None = None
        self.proven = False  # it went through its probation
        self.kept_until = ""  # wall clock, while it is kept
        self.remark = ""

    # ---- after a flip

    def keep(self, time_s: float, until: str) -> None:
        """It stays up without requests for so long."""
        self.release.warm_standby, self.kept_until = True, until
        self._later("keep", time_s, self._kept_enough)

    def let_go(self) -> None:
        """It is not kept any more."""
        self.release.warm_standby, self.kept_until = False, ""
        self._cancel("keep")

    def watch(self, probation: Probation, time_s: float, proven: Callable[[], None]) -> None:
        """It is on probation for so long; afterwards `proven` is called."""
        self.probation, self.release.on_probation = probation, True
        self._later("watch", time_s, lambda: self._prove(proven))

    def unwatch(self) -> None:
        """Its probation is over."""
        self.probation, self.release.on_probation = None, False
        self._cancel("watch")

    def _kept_enough(self) -> None:
        log.info("%s: was kept for a roll-back long enough", self.release.title)
        self.let_go()
        self.changed()

    def _prove(self, proven: Callable[[], None]) -> None:
        self.unwatch()
        self.proven = True
        proven()
        self.changed()

    def _later(self, what: str, time_s: float, call: Callable[[], None]) -> None:
        self._cancel(what)
        self._timers[what] = asyncio.get_running_loop().call_later(time_s, call)

    def _cancel(self, what: str) -> None:
        if timer := self._timers.pop(what, None):
            timer.cancel()

    # ---- steps

    def step(self, event: ReleaseEvent, reason: str = "") -> ReleaseAction | None:
        """Move the release, and its workers with it. The caller does the unpacking."""
        action = self.release.machine.step(event)
        self._since = now()
        self.release.reason = reason
        match action:
            case ReleaseAction.START_WORKERS:
                self._start()
            case ReleaseAction.STOP_WORKERS:
                self._retire()
            case _:
                pass
        self.changed()
        return action

    def end(self, event: ReleaseEvent, reason: str) -> None:
        """Refused, failed or stopped, where that still means anything."""
        if self.release.machine.allows(event):
            reason = reason.removeprefix(f"{self.release.file}: ")  # it stands beside the file's name
            if event is not ReleaseEvent.STOPPED:
                log.error("%s (%s): %s: %s", self.release.title, self.release.file, event, reason)
            self.step(event, reason)

    def is_admitted(self, admitted: AdmittedPex, pex: PexFile) -> None:
        """Its copy is in the cache and was verified by itself."""
        self.admitted, self.pex = admitted, pex
        self.release.identity = Identity(pex.kind, pex.name, pex.version, admitted.sha256)
        self.step(ReleaseEvent.ADMITTED)

    def has_base(self, base: UnpackedBase, warnings: list[str]) -> None:
        """It can run on `base`."""
        self.base, self.warnings = base, warnings
        for warning in warnings:
            log.warning("%s: %s", self.release.title, warning)
        self.step(ReleaseEvent.BASE_CHOSEN)

    def is_unpacked(self, argv: list[str]) -> None:
        """Its workers can be started with `argv`, or it is a base, which has none."""
        self._argv = argv
        self.step(ReleaseEvent.UNPACKED)

    def retire_all(self) -> None:
        """End every worker that is not on its way out, since all ends."""
        for worker in self.workers:
            if worker.is_wanted:
                worker.retire(self._next_generation())

    def _start(self) -> None:
        self.release.was_ready, self.release.crash_count, self._log, self.remark = False, 0, [], ""
        if not self.release.is_model:
            return
        assert self.release.identity is not None
        self._launch = launch = self._plant.launch(self.release.title, self.release.identity.name, self._argv)
        fresh = [WorkerProcess(launch, self) for _ in range(self._plant.settings.workers_per_release)]
        self.workers += fresh
        self.release.pending_workers = len(fresh)
        for worker in fresh:
            worker.start()
        max_bytes, max_requests = int(self._plant.settings.worker_recycle_bytes), self._plant.settings.worker_recycle_requests
        if max_bytes or max_requests:
            self._renewal = Recycling(self, max_bytes, max_requests)
        if max_bytes:
            self._later("renew", MEMORY_CHECK_S, self._look_again)

    def relieve(self) -> None:
        """Retire the worker in whose place another one is ready."""
        if self._renewal is not None and (old := self._renewal.pop_replaced_worker()) is not None:
            old.retire(self._next_generation())

    def _look_again(self) -> None:
        if self.release.state is ReleaseState.RUNNING:
            self._later("renew", MEMORY_CHECK_S, self._look_again)
            self._renew()

    def _renew(self) -> None:
        if self._renewal is None or self._launch is None or self.release.state is not ReleaseState.RUNNING:
            return
        if (new := self._renewal.start_replacement(self.release.title, self.workers, self._launch)) is not None:
            self.workers.append(new)
            new.start()
            self.changed()

    def _retire(self) -> None:
        self.release.was_ready = False
        self.let_go()
        self.unwatch()
        self._cancel("renew")
        self.retire_all()

    # ---- what its workers say (workers.Owner)

    @property
    def loaded(self) -> bool:
        """Whether a worker of this file was ever ready."""
        return self.release.spec is not None

    @property
    def start_is_urgent(self) -> bool:
        """Whether clients wait for it: it served before, or Pexdock has only just been started."""
        return self.loaded or self.initial

    def accept_worker(self, ready: Ready) -> bool:
        """Compare what a worker says with what the file said. The worker of a release that lied is ended with it."""
        misfit = self._misfit(ready)
        if misfit:
            self.end(ReleaseEvent.REFUSED, misfit)
            return False
        paths = ", ".join(endpoint.path for endpoint in ready.release.endpoints)
        log.info("%s: ready at %s", self.release.title, paths)
        self.release.spec, self.release.was_ready = ready.release, True
        self.release.pending_workers = max(0, self.release.pending_workers - 1)
        self._worker_warnings = ready.warnings
        self._since = now()
        return True

    def on_worker_exit(self, trouble: WorkerFailure) -> None:
        """A worker ended that should not have; the release has failed if none is left and it cannot come back."""
        self.release.reason, self._log = trouble.reason, trouble.last_lines
        self.release.pending_workers = int(self.release.warm_standby and not self._sockets())  # a roll-back waits until it is back
        if self.probation is not None:
            self.probation.died(trouble.reason)
        if not self.release.was_ready:
            self.release.crash_count += 1
        if trouble.final and not self._sockets():
            self.end(ReleaseEvent.FAILED, trouble.reason)
        self.changed()

    def on_requests_sent(self) -> None:
        """It may be time for another one in a worker's place."""
        self._renew()

    def _misfit(self, ready: Ready) -> str:
        assert self.pex is not None
        words = ready.release
        if misfit := wire_mismatch("its worker", ready.wire):
            return misfit
        if not _same(words, self.pex):
            return f"its worker says that it is {words.model} {words.version}, its file that it is {self.pex.name} {self.pex.version}"
        if len(words.endpoints) < len(self.pex.endpoints):
            return f"its worker serves {len(words.endpoints)} endpoints, and its file declares {len(self.pex.endpoints)}"
        return ""

    # ---- what is known of it

    @property
    def pending(self) -> bool:
        """Whether it may still become ready, or known to be refused, by itself."""
        return self.release.is_starting or (self.release.state is ReleaseState.WAITING and self.base_pending)

    @property
    def up(self) -> bool:
        """Whether a worker of it is ready."""
        return bool(self._sockets())

    def route(self) -> Route:
        """Its line in the routing table."""
        assert self.release.spec is not None
        return Route(self.release.spec, self._sockets(), self.release.sha256, self.probation is not None)

    def prune(self) -> None:
        """Forget workers of which nothing is left."""
        self.workers = [worker for worker in self.workers if worker.state is not WorkerState.STOPPED]

    def report(self) -> ReleaseReport:
        """Its part of the state file."""
        release, identity = self.release, self.release.identity
        return ReleaseReport(
            file=release.file,
            order=release.order,
            state=self._shown_state(),
            since=self._since,
            kind=identity.kind if identity else "",
            name=identity.name if identity else "",
            version=identity.version if identity else "",
            sha256=identity.sha256 if identity else "",
            base_version=self.base.version if self.base and release.is_model else "",
            reason=self._shown_reason(),
            log=self._log,
            warnings=self.warnings + self._worker_warnings + self._file_remarks(),
            paths=[endpoint.path for endpoint in release.spec.endpoints] if release.spec else [],
            worker_pids=[worker.pid for worker in self.workers if worker.pid is not None],
            restarts=sum(worker.restarts for worker in self.workers),
        )

    def _sockets(self) -> list[str]:
        return [str(worker.socket_path) for worker in self.workers if worker.state is WorkerState.READY]

    def _shown_state(self) -> str:
        if self.release.state is ReleaseState.RUNNING:
            if not self.release.is_model or self._sockets():
                return "kept" if self.release.warm_standby else "ready"
            return "restarting" if self.release.was_ready or self.release.crash_count else "starting"
        return "stopping" if self.release.state is ReleaseState.STANDBY and self.workers else str(self.release.state)

    def _shown_reason(self) -> str:
        if self.release.state is ReleaseState.STANDBY and not self.release.reason:
            return "a newer release of the model is there"
        return f"it was restarted: {self.release.reason}" if self.release.reason and self._shown_state() == "ready" else self.release.reason

    def _file_remarks(self) -> list[str]:
        if self.release.in_place or self.release.state is not ReleaseState.RUNNING:
            return []
        what = "holds other content now" if self.release.replaced_by else "is gone from dist/"
        return [f"its file {what}; it serves on until another release takes over or Pexdock ends"]


def _same(words: ReleaseSpec, pex: PexFile) -> bool:
    try:
        return canonicalize_name(words.model) == canonicalize_name(pex.name) and Version(words.version) == Version(pex.version)
    except InvalidVersion:
        return False
