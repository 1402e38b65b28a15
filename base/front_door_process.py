"""The front door of a development server: a child process that serves HTTP for the worker in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Self

from base.forks import call_in_forked_child
from base.ipc.control import ControlMessage, Drain
from base.ipc.control_connection import ControlConnection
from base.ipc.front_door_control import Configure, Route, RoutingTable, TableApplied
from base.ipc.metrics_report import MetricsReport
from base.ipc.release_spec import ReleaseSpec
from base.process import front_door_command

_START_TIMEOUT_S = 60.0
_LAST_MESSAGES_S = 5.0
"""Time limit for reading the last messages of a front door that has exited; they are already in the socket."""
_KILL_AFTER_DRAIN_S = 2.0


class FrontDoorProcess:
    """Starts a front door when it is created, and waits for its exit when its `with` block ends.

    Args:
        listener: The bound socket on which the front door accepts connections.
        configuration: Its limits.
        on_report: Called with each report of its metrics, on a thread of its own.
        on_exit: Called on that thread when the front door is gone.
    """

    def __init__(
        self,
        listener: socket.socket,
        configuration: Configure,
        on_report: Callable[[MetricsReport], None],
        on_exit: Callable[[], None],
    ) -> None:
        self._configuration = configuration
        self._on_report = on_report
        self._applied = threading.Event()
        self._kill_timer: threading.Timer | None = None
        self._control, theirs = socket.socketpair()
        call_in_forked_child(self._control.close)
        command, variables = front_door_command([listener.fileno()])
        command += ["--control-fd", str(theirs.fileno())]
        fds = (theirs.fileno(), listener.fileno())
        self._child = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=os.environ | variables)
        theirs.close()
        self._connection = ControlConnection(self._control, "the front door", self._on_message, on_exit)

    def __enter__(self) -> Self:
        self._connection.send_message(self._configuration)
        self._connection.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.drain()
        self._child.wait()
        self._connection.join(_LAST_MESSAGES_S)
        if self._kill_timer is not None:
            self._kill_timer.cancel()
        self._control.close()

    def drain(self) -> None:
        """Lets the front door answer what it has accepted and exit; kills it if it takes too long. Idempotent; safe in signal handlers."""
        if self._kill_timer is None:
            self._kill_timer = threading.Timer(self._configuration.drain_s + _KILL_AFTER_DRAIN_S, self._child.kill)
            self._kill_timer.daemon = True
            self._kill_timer.start()
            self._connection.send_message(Drain())

    def route_to(self, release: ReleaseSpec, worker_socket: str) -> bool:
        """Sends all requests to one worker. Returns False if the front door does not serve in time; blocks until it does."""
        self._connection.send_message(RoutingTable(1, [Route(release, [worker_socket])], startup_complete=True))
        return self._applied.wait(_START_TIMEOUT_S)

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case TableApplied():
                self._applied.set()
            case MetricsReport():
                self._on_report(message)
            case _:
                pass  # such as Listening: only the routing table counts
