"""One child process: spawned, controlled and reaped by the supervisor's event loop. Runs in the supervisor.

This code neither blocks nor polls: output, control messages and the exit (a pidfd) are descriptors of the loop. A child leads its own
session. So Ctrl-C in a terminal reaches only the supervisor, which then stops its children in order. Processes that a model has started are
killed with it, as one process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from base.ipc.control import ControlMessage, Drain
from base.log import LEVELS_ENV
from runtime.supervisor.host.spawner import spawner
from runtime.supervisor.processes.child_output import ChildOutput
from runtime.supervisor.processes.control_socket import ControlSocket
from runtime.supervisor.processes.sandbox import User

log = logging.getLogger(__name__)

_EXIT_AFTER_DISCONNECT_S = 5.0
"""Time limit for the exit after a child closed its control socket or sent something invalid, in seconds. Afterwards it is killed."""

_REAP_S = 5.0

INTERPRETER = os.path.realpath(sys.executable)
"""The interpreter of this process. Links in venvs lead to it."""


def child_environment(parent: Mapping[str, str], additions: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a child: `parent` without the variables that steer Pexdock, pex or Python, and with `additions`.

    PYTHONDONTWRITEBYTECODE, PYTHONPATH or PEX_PATH of the shell that started the supervisor would change what a release is.
    """
    inherited = {name: value for name, value in parent.items() if not name.startswith(("PEXDOCK_", "PEX", "PYTHON"))}
    return {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"} | inherited | {"PYTHONUNBUFFERED": "1"} | dict(additions)


def describe_exit(code: int) -> str:
    """Returns a description of an exit status of `subprocess`."""
    if code >= 0:
        return f"exited with code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"was killed by {name}" + (" (which the kernel also sends when memory runs out)" if code == -signal.SIGKILL else "")


@dataclass(frozen=True)
class ProcessSpec:
    """The parameters of a child process.

    Attributes:
        argv: The command; `--control-fd N` is appended.
        env: The whole environment.
        fds: Further descriptors that the child inherits under their own numbers.
        user: The user of the process; None for the user of this process.
        stopped_max_s: Time in seconds after which a process that was stopped (SIGSTOP) is killed; 0 for never.
        program: The file to execute; None for the first word of the command. This process is blocked until the kernel has opened it.
    """

    argv: Sequence[str]
    env: Mapping[str, str]
    fds: Sequence[int] = ()
    user: User | None = None
    stopped_max_s: float = 0.0
    program: str | None = None


class Child:
    """One child process. `start` spawns it.

    Args:
        name: Prefix of its lines in the log.
        spec: Command, environment, descriptors and user.
        on_message: Called with each control message, in order.
        on_exit: Called once with the exit status of `subprocess`, after the last message and the last line of output.

    Attributes:
        output: Output of the process.
        exited: Set once it is reaped and nothing of it is left.
        is_stopped: Whether the process is stopped (SIGSTOP).
        failure: Reason why it is killed before it exits by itself; empty for none.
    """

    def __init__(self, name: str, spec: ProcessSpec, on_message: Callable[[ControlMessage], None], on_exit: Callable[[int], None]) -> None:
        self.name = name
        self.output = ChildOutput(name)
        self.exited = asyncio.Event()
        self._spec = spec
        self._control = ControlSocket(name, on_message, self._on_disconnect, self._on_invalid)
        self._on_exit = on_exit
        self._timers: list[asyncio.TimerHandle] = []
        self._pidfd = -1
        self._stop_timer: asyncio.TimerHandle | None = None
        self.is_stopped = False
        self.failure = ""

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._process.pid

    def start(self) -> None:
        """Spawns the process.

        Raises:
            OSError: The process could not be spawned. Nothing of it is left.
        """
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._control.close)
            with self._control.open() as theirs:
                read_fd, write_fd = os.pipe()
                output = on_error.enter_context(open(read_fd, "rb", buffering=0))  # noqa: PTH123 - a descriptor
                try:
                    self._process = self._spawn(theirs.fileno(), write_fd)
                finally:
                    os.close(write_fd)
            on_error.callback(self._abort_start)
            self._pidfd = os.pidfd_open(self._process.pid)
            on_error.pop_all()
        self._loop = asyncio.get_running_loop()
        self.output.start(output, self._process.pid)
        self._control.start()
        self._loop.add_reader(self._pidfd, self._reap)

    def send(self, message: ControlMessage) -> None:
        """Queues a control message."""
        self._control.send(message)

    def kill(self) -> None:
        """Sends SIGKILL to the whole group. Safe at any time: until the child is reaped here, no other process can have its id."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def fail(self, reason: str) -> None:
        """Kills the process because of `reason`, which `failure` then holds."""
        self.failure = reason
        self.kill()

    def notice_stop(self) -> bool:
        """Notices that the process was stopped or continues, which the kernel reports by SIGCHLD. Returns whether that is new.

        A process that stays stopped is killed, since its clients wait.
        """
        found = None
        with contextlib.suppress(ChildProcessError):
            if self._pidfd >= 0:
                found = os.waitid(os.P_PIDFD, self._pidfd, os.WSTOPPED | os.WCONTINUED | os.WNOHANG)
        if found is None:
            return False
        self.is_stopped = found.si_code == os.CLD_STOPPED
        limit_s = self._spec.stopped_max_s
        if self._stop_timer is not None:
            self._stop_timer.cancel()
        if self.is_stopped and limit_s:
            log.warning("%s (pid %d) is stopped, and is replaced unless it continues within %g s", self.name, self.pid, limit_s)
            self._stop_timer = self._loop.call_later(limit_s, self.fail, f"was stopped (SIGSTOP) for {limit_s:g} s (unresponsive_s)")
            self._timers.append(self._stop_timer)
        else:
            log.warning("%s (pid %d) %s", self.name, self.pid, "is stopped" if self.is_stopped else "continues")
        return True

    def close(self) -> None:
        """Kills and reaps the child at once, without callbacks, for a shutdown that is not orderly. Idempotent."""
        if self._pidfd >= 0:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=_REAP_S)
            self._release()

    def _spawn(self, control_fd: int, output_fd: int) -> subprocess.Popen[bytes]:
        spec, user = self._spec, self._spec.user

        def make_process() -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*spec.argv, "--control-fd", str(control_fd)],
                executable=spec.program,
                stdin=subprocess.DEVNULL,
                stdout=output_fd,
                stderr=subprocess.STDOUT,
                env={**spec.env, LEVELS_ENV: self.output.secret},
                pass_fds=(control_fd, *spec.fds),
                start_new_session=True,
                umask=0o077,
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=user.groups if user else None,
            )

        return spawner().spawn(make_process, (control_fd, output_fd, *spec.fds))

    def _abort_start(self) -> None:
        """Kills the process that was just spawned, since no descriptor is left to watch its exit."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _call_later(self, delay_s: float, callback: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, callback))

    def _on_invalid(self) -> None:
        self.send(Drain())
        self._on_disconnect()

    def _on_disconnect(self) -> None:
        self._call_later(_EXIT_AFTER_DISCONNECT_S, self.kill)

    def _reap(self) -> None:
        """Handles the exit. Until the child is reaped below, no other process can have its id or group."""
        self._loop.remove_reader(self._pidfd)
        self.kill()
        while self._control.read_once():
            pass  # a message of its failure may still be in the socket
        self.output.finish()
        code = self._process.wait()
        self._release()
        self._on_exit(code)

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        self._pidfd = -1
        self.output.close()
        self._control.close()
        self.exited.set()
