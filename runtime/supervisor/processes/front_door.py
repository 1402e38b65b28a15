"""The front door's process: started, configured, given the routing table, started again when it dies. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Iterator

from base.backoff import Backoff
from base.ipc.control import (
    Configure,
    ControlMessage,
    Drain,
    Listening,
    MetricsReport,
    MirrorReport,
    OutcomeReport,
    ReportNotReady,
    RequestsSent,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
)
from base.process import front_door_command
from base.telemetry.append_log import STDOUT
from runtime.supervisor.processes.child import Child, child_environment, describe_exit

log = logging.getLogger(__name__)

FrontDoorReport = MetricsReport | OutcomeReport | MirrorReport | WorkerUnhealthy | RequestsSent
"""What front doors tell without being asked."""


class FrontDoorChild:
    """One front door, and the table that it should have.

    Args:
        name: for the log.
        listener: the bound socket, which it inherits each time it is started, so that connections wait meanwhile.
        limits: its first word.
        backoff: how long to wait before it is started again.
        changed: called when it listens, when it has applied a table and when it has died.
        report: takes what it measured and counted.
    """

    def __init__(
        self,
        name: str,
        listener: socket.socket,
        limits: Configure,
        backoff: Backoff,
        changed: Callable[[], None],
        report: Callable[[FrontDoorReport], None],
    ) -> None:
        self._name = name
        self._listener = listener
        self._limits = limits
        self._backoff = backoff
        self._changed = changed
        self._report = report
        self._table = RoutingTable(0, [], startup_complete=False)
        self._deaths = 0
        self._listening_since: float | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._withdrawn = self._stopping = False
        self.child: Child | None = None
        self.applied_generation = self._left = -1

    def has_drained(self, generation: int) -> bool:
        """Whether no request can come any more over what a table of `generation` or later does not name, nor waits for it."""
        return self.child is None or self._left >= generation

    def start(self) -> None:
        """Spawn it, with its limits and the table."""
        self._restart = None
        try:
            with _stdout(wanted=self._limits.access_log == STDOUT) as stdout_fd:
                fds = [self._listener.fileno(), stdout_fd]
                argv, env = front_door_command(*fds)
                child = Child(self._name, argv, child_environment(os.environ, env), self._hear, self._died, fds)
                child.start()
        except OSError as exc:
            log.error("%s cannot be started: %s", self._name, exc)  # noqa: TRY400 - the operating system's reason says it all
            self._start_later()
            return
        self.child = child
        child.send(self._limits)
        child.send(self._table)
        if self._withdrawn:
            child.send(ReportNotReady())

    def publish_table(self, table: RoutingTable) -> None:
        """Give it a newer table, now and after every restart."""
        self._table = table
        if self.child is not None:
            self.child.send(table)

    def report_not_ready(self) -> None:
        """Tell it to say that it is not ready, now and after every restart."""
        self._withdrawn = True
        if self.child is not None:
            self.child.send(ReportNotReady())

    def drain(self) -> None:
        """Tell it to take nothing new, finish and go. It is not started again."""
        self._stopping = True
        if self._restart is not None:
            self._restart.cancel()
        if self.child is not None:
            self.child.send(Drain())

    def _hear(self, word: ControlMessage) -> None:
        match word:
            case Listening():
                self._listening_since = asyncio.get_running_loop().time()
            case TableApplied(generation):
                self.applied_generation = generation
            case RoutesDrained(generation):
                self._left = max(self._left, generation)
            case MetricsReport() | OutcomeReport() | MirrorReport() | WorkerUnhealthy() | RequestsSent():
                self._report(word)
                return
            case _:
                log.warning("%s said %s, which is not its word", self._name, type(word).__name__)
        self._changed()

    def _died(self, code: int) -> None:
        self.child = None
        self.applied_generation = self._left = -1
        if not self._stopping:
            log.error("%s %s; it is started again", self._name, describe_exit(code))
            self._start_later()
        self._changed()

    def _start_later(self) -> None:
        loop = asyncio.get_running_loop()
        lived_s = loop.time() - self._listening_since if self._listening_since is not None else 0.0
        self._listening_since = None
        self._deaths = self._backoff.count_failure(self._deaths, lived_s)
        self._restart = loop.call_later(self._backoff.delay_s(self._deaths), self.start)


@contextlib.contextmanager
def _stdout(*, wanted: bool) -> Iterator[int]:
    """A copy of our standard output for a child, whose own is a pipe to us; where it is not wanted, or closed, one that leads nowhere."""
    try:
        fd = os.dup(1) if wanted else os.open(os.devnull, os.O_WRONLY)
    except OSError:
        fd = os.open(os.devnull, os.O_WRONLY)
    try:
        yield fd
    finally:
        os.close(fd)
