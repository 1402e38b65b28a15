"""Starts, restarts with backoff, retires, drains and stops one worker of a release. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from base.errors import PeerError, PexdockError, Unavailable
from base.ipc.cache_control import CacheEntries, CacheRefreshed, CacheRequest, CacheRequestRefused, CacheResponse
from base.ipc.control import RETRYABLE_CODES, ControlMessage, Described, Drain, ExitCode, Failed, Ready
from base.ipc.front_door_control import RequestsSent, WorkerUnhealthy
from base.ipc.metrics_report import MetricsReport
from base.ipc.release_spec import ReleaseSpec
from runtime.supervisor.processes.child import Child, describe_exit
from runtime.supervisor.processes.start_limiter import StartSlot
from runtime.supervisor.processes.worker_run import WorkerRun, WorkerTemplate
from runtime.supervisor.processes.worker_state import WorkerAction, WorkerEvent, WorkerState, new_worker

log = logging.getLogger(__name__)

_UNHEALTHY_GRACE_S = 0.5
"""Delay before a reported worker is killed, in seconds. A channel also closes because its worker has exited; then the exit status says more
than the report of a front door."""

_LAST_LINES = 20
"""Number of output lines that are kept with the reason of a failure, enough for a traceback."""


@dataclass(frozen=True)
class WorkerFailure:
    """The reason of a worker's unexpected exit.

    Attributes:
        reason: Explanation for people.
        last_lines: The last lines of its output.
        final: Whether it will not be restarted.
    """

    reason: str
    last_lines: list[str]
    final: bool


class WorkerOwner(Protocol):
    """The release that a worker belongs to."""

    @property
    def loaded(self) -> bool:
        """True if any of its workers was ready before. Then the file is not at fault if a worker cannot load."""

    @property
    def start_is_urgent(self) -> bool:
        """True if clients wait for a start, so that the new worker gets the same priority as serving workers."""

    def on_described(self, spec: ReleaseSpec) -> None:
        """Handles the description of the release by a worker that is not ready yet."""

    def accept_worker(self, ready: Ready) -> bool:
        """Returns whether a worker matches its release. If not, the owner has already retired it."""

    def on_worker_exit(self, failure: WorkerFailure) -> None:
        """Handles the unexpected exit of a worker."""

    def changed(self) -> None:
        """Handles a change of a worker's state."""

    def on_requests_sent(self) -> None:
        """Handles a report of further requests to a worker."""


class WorkerProcess:
    """One worker, from its first start until it is no longer needed. Between two runs it has no process.

    Args:
        template: Parameters of its start.
        owner: The release to which it belongs.

    Attributes:
        run: The current run, with its process and files.
        restarts: Number of restarts.
        retired_generation: Generation of the first routing table without it; 0 until it is retired.
    """

    def __init__(self, template: WorkerTemplate, owner: WorkerOwner) -> None:
        self._template = template
        self._owner = owner
        self._machine = new_worker()
        self.run = WorkerRun(template, self._on_message, self._on_exit)
        self._timers: list[asyncio.TimerHandle] = []
        self._crashes = 0
        self._checks_batches = True
        self._start_slot: StartSlot | None = None  # only while it starts
        self.restarts = 0
        self.retired_generation = 0

    @property
    def state(self) -> WorkerState:
        """The current state."""
        return self._machine.state

    @property
    def child(self) -> Child | None:
        """The process that runs now."""
        return self.run.child

    @property
    def pid(self) -> int | None:
        """Id of the process that runs now."""
        return self.run.child.pid if self.run.child else None

    @property
    def requests_sent(self) -> int:
        """Number of requests in the current run that front doors have reported."""
        return self.run.requests_sent

    @property
    def is_wanted(self) -> bool:
        """True unless it has been retired."""
        return self.state not in {WorkerState.RETIRED, WorkerState.STOPPING, WorkerState.STOPPED}

    def start(self) -> None:
        """Spawns the process when a start slot is free, or at once if the release served before, since clients wait for it."""
        if self._owner.loaded:
            self._spawn()
        else:
            self._start_slot = self._template.start_limiter.request_slot(self._template.model, self._spawn)

    async def call(self, make_request: Callable[[int], CacheRequest]) -> CacheResponse:
        """Sends a request about caches and returns the response; see `WorkerRpc.call`.

        Raises:
            Unavailable: The worker is not ready.
            PexdockError: As `WorkerRpc.call`.
        """
        if self.run.rpc is None:
            raise Unavailable(f"the worker is not ready: {self.state}")
        return await self.run.rpc.call(make_request)

    def on_front_door_report(self, message: WorkerUnhealthy | RequestsSent) -> None:
        """Handles a report of a front door, which may be about another worker."""
        if message.socket != str(self.run.socket_path) or self.state not in {WorkerState.READY, WorkerState.RETIRED, WorkerState.STOPPING}:
            return
        if isinstance(message, RequestsSent):
            self.run.requests_sent += message.requests
            self._owner.on_requests_sent()
        else:
            # The exit of the worker cancels this timer: most reported workers are about to exit anyway.
            self._call_later(_UNHEALTHY_GRACE_S, lambda: self.run.kill(f"a front door reported its worker as unhealthy: {message.reason}"))

    def retire(self, generation: int) -> None:
        """Retires the worker. It keeps serving until a routing table without it, of `generation` or later, is in force."""
        self.retired_generation = generation
        self._step(WorkerEvent.RETIRED)
        if self.state is WorkerState.RETIRED:
            self._call_later(self._template.drain_s, self.on_unrouted)

    def on_unrouted(self) -> None:
        """Drains the worker if it is retired, since no front door will send it new requests."""
        if self.state is WorkerState.RETIRED:
            self._step(WorkerEvent.UNROUTED)

    def _spawn(self) -> None:
        self.run = WorkerRun(self._template, self._on_message, self._on_exit)
        self.run.task = asyncio.get_running_loop().create_task(self._spawn_run(self.run))

    async def _spawn_run(self, run: WorkerRun) -> None:
        """Spawns the process. Cancelled if the worker is no longer needed before it has one."""
        extra_niceness = 0 if self._owner.start_is_urgent else self._template.start_nice
        try:
            await run.spawn(proven=self._owner.loaded, checks_batches=self._checks_batches, extra_niceness=extra_niceness)
        except (OSError, PexdockError) as exc:
            run.failure = f"cannot start a worker: {exc}"
            self._on_exit(ExitCode.CRASHED)
            return
        self._owner.changed()
        late = f"its worker was not ready within {self._template.start_timeout_s:g} s (start_timeout_s)"
        self._call_later(self._template.start_timeout_s, lambda: self.run.kill(late))

    def _step(self, event: WorkerEvent, reason: str = "") -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        match self._machine.step(event):
            case WorkerAction.SPAWN:
                self.restarts += 1
                self.start()
            case WorkerAction.SCHEDULE_RESTART:
                delay_s = self._template.backoff.delay_s(self._crashes)
                log.warning("%s: %s; restarting in %.1f s", self._template.title, reason, delay_s)
                self._call_later(delay_s, lambda: self._step(WorkerEvent.RESTART_DUE))
            case WorkerAction.DRAIN if self.child is not None:
                self.child.send(Drain())
                self._call_later(self._template.drain_s, self._kill)
            case WorkerAction.KILL:
                self._kill()
            case _:
                pass
        self._owner.changed()

    def _kill(self) -> None:
        self._end_start()
        if self.child is not None:
            self.child.kill()
        else:  # it was still waiting for a start slot or a disk
            self.run.cancel_task()
            self._call_later(0.0, lambda: self._on_exit(ExitCode.OK))

    def _end_start(self) -> None:
        """Ends the start, successful or not. Another worker may start, and the process gets normal priority."""
        self.run.restore_priority()
        if self._start_slot is not None:
            slot, self._start_slot = self._start_slot, None
            slot.release()

    def _on_message(self, message: ControlMessage) -> None:
        rpc = self.run.rpc
        match message:
            case Ready() if self.state is WorkerState.STOPPING:
                self._step(WorkerEvent.READY)
            case Ready() if self.state is WorkerState.STARTING:
                self._end_start()
                self.run.task = asyncio.get_running_loop().create_task(self._accept_run(self.run, message))
            case Described(release) if self.state is WorkerState.STARTING:
                self._owner.on_described(release)
            case CacheEntries() | CacheRefreshed() | CacheRequestRefused() if rpc is not None and rpc.receive_response(message):
                pass
            case Failed(code, reason):
                self.run.failure, self.run.has_reported = reason, True
                self.run.cannot_load = code not in RETRYABLE_CODES
            case MetricsReport():
                self._template.on_metrics(message)
            case Ready() | CacheEntries() | CacheRefreshed() | CacheRequestRefused():
                log.debug("%s sent a message too late: %s", self._template.title, type(message).__name__)
            case _:
                raise PeerError(f"unexpected message {type(message).__name__} from a worker")

    async def _accept_run(self, run: WorkerRun, ready: Ready) -> None:
        """Takes the worker into service. Cancelled if its process exits before."""
        if await run.hold_socket() and self.state is WorkerState.STARTING and self._owner.accept_worker(ready):
            run.on_ready()
            self._step(WorkerEvent.READY)

    def _on_exit(self, code: int) -> None:
        run = self.run
        lines = run.last_lines(_LAST_LINES)
        failure = run.child.failure if run.child is not None else ""
        run.release(code)
        self._end_start()
        if self.state in {WorkerState.RETIRED, WorkerState.STOPPING}:
            self._step(WorkerEvent.EXITED)
            return
        when = "" if self.state is WorkerState.READY else " before it was ready"
        reason = run.failure or f"its worker {failure or describe_exit(code)}{when}{self._template.sandbox.explain_exit(code, lines)}"
        if not run.has_reported and self._checks_batches:  # made-up rows may have ended it, which no client sends
            self._checks_batches = False
            log.warning("%s: further starts do not check whether its answer for a row depends on other rows", self._template.title)
        final = (code == ExitCode.CANNOT_LOAD or run.cannot_load) and not self._owner.loaded
        self._crashes = self._template.backoff.count_failure(self._crashes, run.ready_s())
        self._step(WorkerEvent.FAILED_TO_LOAD if final else WorkerEvent.EXITED, reason)
        self._owner.on_worker_exit(WorkerFailure(reason, lines, final))

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(delay_s, callback))
