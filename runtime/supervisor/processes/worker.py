"""One worker of a release as a process: started, restarted with back-off, drained, ended. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from base.backoff import Backoff
from base.errors import Unavailable
from base.ipc.cache_control import CacheEntries, CacheRefreshed, CacheRequest, CacheRequestRefused, CacheResponse
from base.ipc.control import (
    RETRYABLE_CODES,
    WARM_UP_ENV,
    WARM_UP_LENIENT,
    ControlMessage,
    Drain,
    ExitCode,
    Failed,
    MetricsReport,
    Ready,
    RequestsSent,
    WorkerUnhealthy,
)
from runtime.supervisor.host.niceness import LoweredPriority
from runtime.supervisor.host.run_dir import SOCKET_SUFFIX
from runtime.supervisor.processes.child import Child, describe_exit
from runtime.supervisor.processes.sandbox import Sandbox, remove_in_background
from runtime.supervisor.processes.start_limiter import StartLimiter, StartSlot
from runtime.supervisor.processes.worker_rpc import WorkerRpc
from runtime.supervisor.processes.worker_state import WorkerAction, WorkerEvent, WorkerState, new_worker

log = logging.getLogger(__name__)

_KILL_AFTER_S = 2.0
"""A worker that got SIGTERM after its time to drain is not waited for much longer."""

_GIVEN_UP_S = 0.5
"""A channel closes, too, because its worker has ended: then that is why, and what is known of its end is worth more."""

TAIL_LINES = 20
"""So many of a worker's last lines are kept beside the reason; a traceback fits."""

_numbers = itertools.count(1)  # a socket's name is never used twice, so a front door cannot meet another worker behind an old one


@dataclass(frozen=True)
class WorkerTemplate:
    """How the workers of one release are started, how long things may take, and who takes what they measure."""

    title: str
    argv: Sequence[str]
    env: Mapping[str, str]
    run_path: Path
    start_timeout_s: float
    drain_s: float
    backoff: Backoff
    on_metrics: Callable[[MetricsReport], None]
    start_limiter: StartLimiter
    start_nice: int
    sandbox: Sandbox


@dataclass(frozen=True)
class WorkerFailure:
    """Why a worker ended that should not have, and its last lines. `final`: it will not be started again."""

    reason: str
    last_lines: list[str]
    final: bool


class WorkerOwner(Protocol):
    """The release that a worker belongs to."""

    @property
    def loaded(self) -> bool:
        """Whether any worker of it was ready before: then a worker that cannot load is no fault of the file."""

    @property
    def start_is_urgent(self) -> bool:
        """Whether a start is more urgent than that others are not held up: it served before, or nothing serves yet."""

    def accept_worker(self, ready: Ready) -> bool:
        """Whether a worker is what it should be. If not, it has been retired already."""

    def on_worker_exit(self, trouble: WorkerFailure) -> None:
        """A worker ended that should not have."""

    def changed(self) -> None:
        """A worker made a step."""

    def on_requests_sent(self) -> None:
        """A worker was sent more requests."""


class WorkerProcess:
    """One worker, from its first start until it is no longer needed; between two lives it has no process.

    Args:
        launch: how it is started.
        owner: told of what happens to it.
    """

    def __init__(self, launch: WorkerTemplate, owner: WorkerOwner) -> None:
        self._launch = launch
        self._owner = owner
        self._machine = new_worker()
        self._failure = self._reason = ""
        self._cannot_load = False
        self._timers: list[asyncio.TimerHandle] = []
        self._ready_since: float | None = None
        self._deaths = 0
        self._rpc: WorkerRpc | None = None  # while it is ready
        self._turn: StartSlot | None = None  # while it is started
        self._lowered: LoweredPriority | None = None
        self._scratch: Path | None = None
        self.child: Child | None = None
        self.socket_path = Path()
        self.restarts = 0
        self.requests_sent = 0  # that it was sent, as far as front doors have told
        self.retired_generation = 0  # the generation of the first table that does not name it

    @property
    def state(self) -> WorkerState:
        """Where it stands."""
        return self._machine.state

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
        return self.child.pid if self.child else None

    @property
    def is_wanted(self) -> bool:
        """Whether it has not been retired."""
        return self.state not in {WorkerState.RETIRED, WorkerState.STOPPING, WorkerState.STOPPED}

    def start(self) -> None:
        """Spawn its process when its turn has come; at once where the release served before, since clients wait for it."""
        if self._owner.loaded:
            self._spawn()
        else:
            self._turn = self._launch.start_limiter.request_slot(self._spawn)

    def _spawn(self) -> None:
        self._failure, self._cannot_load, self._ready_since, self.requests_sent = "", False, None, 0
        name, confinement = f"w{next(_numbers)}", self._launch.sandbox
        scratch = confinement.scratch_path / name
        # The run directory is closed to others, also to a user of the workers.
        self.socket_path = (self._launch.run_path if confinement.user is None else scratch) / f"{name}{SOCKET_SUFFIX}"
        argv = [*self._launch.argv, "--socket", str(self.socket_path)]
        proven = {WARM_UP_ENV: WARM_UP_LENIENT} if self._owner.loaded else {}
        env = {**self._launch.env, **proven, "TMPDIR": str(scratch)}
        child = Child(self._launch.title, argv, env, self._hear, self._exited)
        child.user = confinement.user
        try:
            self._scratch = confinement.create_scratch_folder(name)
            child.start()
        except OSError as exc:
            self._failure = f"its worker cannot be started: {exc}"
            self._later(0.0, lambda: self._exited(ExitCode.CRASHED))
            return
        self.child = child
        confinement.limit_memory(child.pid)
        self._lowered = LoweredPriority(child.pid, 0 if self._owner.start_is_urgent else self._launch.start_nice)
        self._later(self._launch.start_timeout_s, self._late)

    async def call(self, question: Callable[[int], CacheRequest]) -> CacheResponse:
        """What the worker answers; see `WorkerRpc.ask`, whose errors it raises. Unavailable, too, while it is started."""
        if self._rpc is None:
            raise Unavailable(f"the worker is not ready: {self.state}")
        return await self._rpc.call(question)

    def on_front_door_report(self, word: WorkerUnhealthy | RequestsSent) -> None:
        """A front door tells of a worker, which may be this one."""
        if self.state is not WorkerState.READY or word.socket != str(self.socket_path):
            return
        if isinstance(word, RequestsSent):
            self.requests_sent += word.requests
            self._owner.on_requests_sent()
        else:
            self._given_up(word)

    def _given_up(self, word: WorkerUnhealthy) -> None:
        """A front door has closed its channel to it. Is it still there after a while, then another takes its place."""

        def replace() -> None:
            self._failure = f"a front door gave its worker up: {word.reason}"
            if self.child is not None:
                self.child.kill()

        self._later(_GIVEN_UP_S, replace)  # nothing comes of it if the worker takes a step meanwhile: most are dying

    def retire(self, generation: int) -> None:
        """It is no longer needed. It goes on until tables of `generation` and later are in force, which do not name it."""
        self.retired_generation = generation
        self._step(WorkerEvent.RETIRED)
        if self.state is WorkerState.RETIRED:
            self._later(self._launch.drain_s, self.on_unrouted)

    def on_unrouted(self) -> None:
        """No front door will send it anything new."""
        if self.state is WorkerState.RETIRED:
            self._step(WorkerEvent.UNROUTED)

    def _step(self, event: WorkerEvent) -> None:
        self._cancel_timers()
        match self._machine.step(event):
            case WorkerAction.SPAWN:
                self.restarts += 1
                self.start()
            case WorkerAction.SCHEDULE_RESTART:
                delay_s = self._launch.backoff.delay_s(self._deaths)
                log.warning("%s: %s; it is started again in %.1f s", self._launch.title, self._reason, delay_s)
                self._later(delay_s, lambda: self._step(WorkerEvent.RESTART_DUE))
            case WorkerAction.DRAIN if self.child is not None:
                self.child.send(Drain())
                self._later(self._launch.drain_s, self._terminate)
            case WorkerAction.TERMINATE:
                self._terminate()
            case _:
                pass
        self._owner.changed()

    def _terminate(self) -> None:
        self._has_started()
        if self.child is not None:
            self.child.terminate(_KILL_AFTER_S)
        else:  # its turn had not come
            self._later(0.0, lambda: self._exited(ExitCode.OK))

    def _has_started(self) -> None:
        """Or will not: others may start, and it has the priority of all others."""
        if self._lowered is not None:
            self._lowered.restore()
            self._lowered = None
        if self._turn is not None:
            turn, self._turn = self._turn, None
            turn.release()

    def _hear(self, word: ControlMessage) -> None:
        match word:
            case Ready() if self.state is WorkerState.STOPPING:
                self._step(WorkerEvent.READY)
            case Ready() if self.state is WorkerState.STARTING:
                self._has_started()
                if self._owner.accept_worker(word):
                    self._ready_since = asyncio.get_running_loop().time()
                    assert self.child is not None
                    self._rpc = WorkerRpc(self.child.send)
                    self._step(WorkerEvent.READY)
            case CacheEntries() | CacheRefreshed() | CacheRequestRefused() if self._rpc is not None and self._rpc.receive_response(word):
                pass
            case Failed(failed, reason):
                self._failure = reason
                self._cannot_load = failed not in RETRYABLE_CODES
            case MetricsReport():
                self._launch.on_metrics(word)
            case _:
                log.warning("%s said %s, which is not its word", self._launch.title, type(word).__name__)

    def _late(self) -> None:
        self._failure = f"its worker was not ready within {self._launch.start_timeout_s:g} s"
        if self.child is not None:
            self.child.kill()

    def _exited(self, code: int) -> None:
        lines = self.child.tail.last_lines(TAIL_LINES) if self.child else []
        self.child = self._lowered = None
        self._has_started()
        if self._rpc is not None:
            self._rpc.close(f"the worker {describe_exit(code)}")
            self._rpc = None
        self.socket_path.unlink(missing_ok=True)
        if self._scratch is not None:
            remove_in_background(self._scratch)
            self._scratch = None
        if self.state in {WorkerState.RETIRED, WorkerState.STOPPING}:
            self._step(WorkerEvent.EXITED)
            return
        when = "" if self.state is WorkerState.READY else " before it was ready"
        self._reason = self._failure or f"its worker {describe_exit(code)}{when}{self._launch.sandbox.explain_exit(code, lines)}"
        final = (code == ExitCode.CANNOT_LOAD or self._cannot_load) and not self._owner.loaded
        self._count_death()
        self._step(WorkerEvent.FAILED_TO_LOAD if final else WorkerEvent.EXITED)
        self._owner.on_worker_exit(WorkerFailure(self._reason, lines, final))

    def _count_death(self) -> None:
        ready_s = asyncio.get_running_loop().time() - self._ready_since if self._ready_since is not None else 0.0
        self._deaths = self._launch.backoff.count_failure(self._deaths, ready_s)

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, call))

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
