"""Starts and configures the process of one front door, sends it the routing table, and restarts it. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from base.backoff import Backoff
from base.errors import PeerError
from base.ipc.control import ControlMessage, Drain
from base.ipc.front_door_control import (
    AcceptAlso,
    Configure,
    JobDemand,
    Listening,
    MirrorReport,
    ModelsRequested,
    ModelStates,
    OutcomeReport,
    Ping,
    Pong,
    ReportNotReady,
    RequestsSent,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
)
from base.ipc.metrics_report import MetricsReport
from base.process import front_door_command
from base.telemetry.append_log import STDOUT
from runtime.supervisor.host.heartbeat import Heartbeat
from runtime.supervisor.processes.child import INTERPRETER, Child, ProcessSpec, child_environment, describe_exit

log = logging.getLogger(__name__)

FrontDoorReport = MetricsReport | OutcomeReport | MirrorReport | WorkerUnhealthy | RequestsSent | ModelsRequested | JobDemand
"""Messages that front doors send without a request."""


@dataclass(frozen=True)
class FrontDoorTiming:
    """The times of front doors.

    Attributes:
        backoff: Delays before one is restarted.
        start_timeout_s: Time limit until one listens, in seconds.
        unresponsive_s: Time in seconds after which one that does not answer is replaced; 0 for never.
    """

    backoff: Backoff
    start_timeout_s: float
    unresponsive_s: float


class FrontDoorStatus(msgspec.Struct, frozen=True):
    """A front door in the state of the supervisor.

    Attributes:
        name: Name in the log.
        state: starting, serving, stopped (by SIGSTOP) or restarting.
        pid: Process id; None while it is restarting.
        restarts: Number of restarts.
    """

    name: str
    state: str
    pid: int | None = None
    restarts: int = 0


class Listeners(NamedTuple):
    """The bound sockets of one front door, and those of all others."""

    own: Sequence[socket.socket]
    others: Sequence[socket.socket]


class FrontDoorChild:
    """One front door, and the routing table that it should have. It is the base class of the job runner's.

    Args:
        name: Name in the log.
        listeners: The bound sockets. The process inherits them at each start, so that connections wait during a restart.
        limits: Configuration, which is the first message to it.
        timing: Delays before it is restarted, and its time limits.
        on_changed: Called when it listens, when it has applied a table and when it has exited.
        on_report: Called with its reports.

    Attributes:
        child: The process; None while there is none.
        applied_generation: Generation of the routing table that is in force in the process; -1 if there is none.
    """

    def __init__(
        self,
        name: str,
        listeners: Listeners,
        limits: Configure,
        timing: FrontDoorTiming,
        on_changed: Callable[[], None],
        on_report: Callable[[FrontDoorReport], None],
    ) -> None:
        self._name = name
        self._listeners = listeners
        self._limits = limits
        self._on_changed = on_changed
        self._on_report = on_report
        self._table = RoutingTable(0, [], startup_complete=False, paths_known=False)
        self._states = ModelStates({})
        self._timing = timing
        self._restarts = _Restarts(timing.backoff, self.start)
        self._start_timer: asyncio.TimerHandle | None = None  # until it listens
        self._heartbeat: Heartbeat | None = None  # while it listens
        self._not_ready = self._stopping = self._is_listening = False
        self._also_fds: list[int] = []  # of others, whose clients it accepts
        self._starts = 0
        self.child: Child | None = None
        self.applied_generation = self._drained_generation = -1

    @property
    def listen_fds(self) -> list[int]:
        """The descriptors of its sockets."""
        return [listener.fileno() for listener in self._listeners.own]

    @property
    def is_accepting(self) -> bool:
        """True while it accepts the clients of its sockets."""
        return self.child is not None and self._is_listening and not self.child.is_stopped

    def accept_also(self, listen_fds: list[int]) -> None:
        """Makes it accept the clients of these sockets of others, too, until the next call."""
        if self.child is not None and listen_fds != self._also_fds:
            self._also_fds = listen_fds
            self.child.send(AcceptAlso(listen_fds))

    def has_drained(self, generation: int) -> bool:
        """Returns whether no request can reach or wait for a worker that tables of `generation` and later no longer contain."""
        return self.child is None or self._drained_generation >= generation

    def start(self) -> None:
        """Spawns the process, and sends it its configuration and the routing table."""
        try:
            with _stdout_for_child(wanted=self._limits.access_log == STDOUT) as stdout_fd:
                argv, additions = self._make_command(self.listen_fds, stdout_fd)
                env = child_environment(os.environ, additions)
                inherited = [*self.listen_fds, *(listener.fileno() for listener in self._listeners.others), stdout_fd]
                spec = ProcessSpec(argv, env, inherited, None, self._timing.unresponsive_s, INTERPRETER)
                child = Child(self._name, spec, self._on_message, self._on_exit)
                child.start()
        except OSError as exc:
            log.error("cannot start %s: %s", self._name, exc)  # noqa: TRY400 - the operating system's reason is enough
            if not self._stopping:
                self._restarts.schedule()
            return
        self.child = child
        self._starts += 1
        late = f"did not listen within {self._timing.start_timeout_s:g} s (start_timeout_s)"
        self._start_timer = asyncio.get_running_loop().call_later(self._timing.start_timeout_s, child.fail, late)
        child.send(self._limits)
        child.send(self._states)  # before the table, so that it never reports ready by the table alone
        child.send(self._table)
        if self._not_ready:
            child.send(ReportNotReady())

    def _make_command(self, listen_fds: Sequence[int], stdout_fd: int) -> tuple[list[str], dict[str, str]]:
        return front_door_command(listen_fds, stdout_fd)

    def report(self) -> FrontDoorStatus:
        """Returns the state of the process for people."""
        child = self.child
        if child is None:
            state = "restarting"
        elif child.is_stopped:
            state = "stopped"
        else:
            state = "starting" if self._heartbeat is None and self._start_timer is not None else "serving"
        return FrontDoorStatus(self._name, state, None if child is None else child.pid, max(0, self._starts - 1))

    def configure(self, limits: Configure) -> None:
        """Sends changed limits, now and after every restart."""
        self._limits = limits
        if self.child is not None:
            self.child.send(limits)

    def publish_table(self, table: RoutingTable) -> None:
        """Sends a newer routing table, now and after every restart."""
        self._table = table
        if self.child is not None:
            self.child.send(table)

    def publish_states(self, states: ModelStates) -> None:
        """Sends the newest states of models, now and after every restart."""
        self._states = states
        if self.child is not None:
            self.child.send(states)

    def report_not_ready(self) -> None:
        """Makes the front door report that it is not ready, now and after every restart."""
        self._not_ready = True
        if self.child is not None:
            self.child.send(ReportNotReady())

    def drain(self) -> None:
        """Makes the front door finish its requests and exit. It is started once more if it crashed and clients wait for it."""
        self._stopping = True
        self._restarts.cancel()
        self._stop_timers()
        if self.child is None and select.select(self._listeners.own, [], [], 0)[0]:
            self.start()
        if self.child is not None:
            self.child.send(Drain())

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case Listening():
                self._is_listening = True
                self._restarts.on_listening()
                self._start_heartbeat()
            case Pong():
                if self._heartbeat is not None:
                    self._heartbeat.on_answer()
                return
            case TableApplied(generation):
                self.applied_generation = generation
            case RoutesDrained(generation):
                self._drained_generation = max(self._drained_generation, generation)
            case _ if isinstance(message, FrontDoorReport):
                self._on_report(message)
                return
            case _:
                raise PeerError(f"unexpected message {type(message).__name__} from a front door")
        self._on_changed()

    def _start_heartbeat(self) -> None:
        self._stop_timers()
        child, timeout_s = self.child, self._timing.unresponsive_s
        if child is None or not timeout_s or self._stopping:
            return

        def on_silent() -> None:
            if child.is_stopped:  # the timer of the stop decides
                self._start_heartbeat()
            else:
                child.fail(f"has not answered for {timeout_s:g} s (unresponsive_s)")

        self._heartbeat = Heartbeat(child.pid, timeout_s, lambda: child.send(Ping()), on_silent)

    def _stop_timers(self) -> None:
        if self._start_timer is not None:
            self._start_timer.cancel()
        if self._heartbeat is not None:
            self._heartbeat.stop()
        self._start_timer = self._heartbeat = None

    def _on_exit(self, code: int) -> None:
        failure = self.child.failure if self.child is not None else ""
        self._stop_timers()
        self.child = None
        self._is_listening, self._also_fds = False, []
        self.applied_generation = self._drained_generation = -1
        if not self._stopping:
            delay_s = self._restarts.schedule()
            log.error("%s %s; restarting in %.1f s", self._name, failure or describe_exit(code), delay_s)
        self._on_changed()


class _Restarts:
    """Restarts a front door after a delay that grows with each crash in a row."""

    def __init__(self, backoff: Backoff, start: Callable[[], None]) -> None:
        self._backoff = backoff
        self._start = start
        self._crashes = 0
        self._listening_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def on_listening(self) -> None:
        """Marks the front door as serving."""
        self._listening_since = asyncio.get_running_loop().time()

    def schedule(self) -> float:
        """Schedules the next start, and returns the delay until then."""
        loop = asyncio.get_running_loop()
        worked_s = loop.time() - self._listening_since if self._listening_since is not None else 0.0
        self._listening_since = None
        self._crashes = self._backoff.count_failure(self._crashes, worked_s)
        delay_s = self._backoff.delay_s(self._crashes)
        self._timer = loop.call_later(delay_s, self._start)
        return delay_s

    def cancel(self) -> None:
        """Cancels a start that is scheduled."""
        if self._timer is not None:
            self._timer.cancel()


@contextlib.contextmanager
def _stdout_for_child(*, wanted: bool) -> Iterator[int]:
    """Yields a copy of our standard output for a child whose own is a pipe to us; /dev/null if it is not wanted or ours is closed."""
    try:
        fd = os.dup(1) if wanted else os.open(os.devnull, os.O_WRONLY)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)
