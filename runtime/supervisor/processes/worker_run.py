"""One run of a worker's process, from spawn to exit, and the resources that it uses. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from base.backoff import Backoff
from base.ipc.control import WARM_UP_ENV, WARM_UP_LENIENT, ControlMessage
from base.ipc.metrics_report import MetricsReport
from runtime.supervisor.host.niceness import LoweredPriority
from runtime.supervisor.host.run_dir import SOCKET_SUFFIX, RunDir
from runtime.supervisor.processes.child import Child, ProcessSpec, describe_exit
from runtime.supervisor.processes.sandbox import Sandbox, remove_in_background
from runtime.supervisor.processes.start_limiter import StartLimiter
from runtime.supervisor.processes.worker_rpc import WorkerRpc

_run_numbers = itertools.count(1)  # a socket name is never reused, so a front door cannot reach another worker by an old name


@dataclass(frozen=True)
class WorkerTemplate:
    """The parameters with which all workers of one release are started.

    Attributes:
        title: Name of the release, in the log.
        model: Normalized name of its model.
        argv: The command.
        env: The environment.
        run_dir: The run directory, in which its socket is made unless workers have a user of their own.
        start_timeout_s: Time limit for a worker to become ready, in seconds.
        drain_s: Time limit for a worker to finish its requests, in seconds.
        backoff: Delays before a worker is restarted.
        on_metrics: Called with the metrics of a worker.
        start_limiter: Limits how many workers start at the same time.
        start_nice: Extra niceness of a worker until it is ready.
        sandbox: Environment, folders, user and memory of a worker.
        unresponsive_s: Time in seconds after which a stopped worker is replaced; 0 for never.
    """

    title: str
    model: str
    argv: Sequence[str]
    env: Mapping[str, str]
    run_dir: RunDir
    start_timeout_s: float
    drain_s: float
    backoff: Backoff
    on_metrics: Callable[[MetricsReport], None]
    start_limiter: StartLimiter
    start_nice: int
    sandbox: Sandbox
    unresponsive_s: float


class WorkerRun:
    """One process of a worker.

    Args:
        template: Parameters of its start.
        on_message: Called with each control message of the process.
        on_exit: Called with its exit status.

    Attributes:
        child: The process; None before `spawn`, and after the exit.
        socket_path: Socket on which it listens for front doors; an empty path before `spawn`.
        rpc: Requests about its caches; None unless it is ready.
        requests_sent: Number of requests to it that front doors have reported.
        failure: Reason why it is about to exit, if that is known; empty otherwise.
        cannot_load: Whether it has reported that it cannot load. That does not change until its file changes.
    """

    def __init__(self, template: WorkerTemplate, on_message: Callable[[ControlMessage], None], on_exit: Callable[[int], None]) -> None:
        self._template = template
        self._on_message, self._on_exit = on_message, on_exit
        self._priority: LoweredPriority | None = None
        self._scratch: Path | None = None
        self._socket_fd = -1  # leads to its socket even if the file was removed; -1 unless the process is ready
        self._ready_since: float | None = None
        self.child: Child | None = None
        self.socket_path = Path()
        self.rpc: WorkerRpc | None = None
        self.requests_sent = 0
        self.failure = ""
        self.cannot_load = False

    def spawn(self, *, proven: bool, extra_niceness: int) -> None:
        """Spawns the process.

        Args:
            proven: Whether a worker of this release was ready before, so that a failed warm-up is no reason to refuse the release.
            extra_niceness: Niceness of the process until `restore_priority`.

        Raises:
            OSError: The process could not be spawned. Call `release` to remove its files.
            PexdockError: A folder that it needs was removed, and cannot be made again.
        """
        name, sandbox = f"w{next(_run_numbers)}", self._template.sandbox
        sandbox.restore_scratch_root()
        self._template.run_dir.restore()
        scratch = sandbox.scratch_path / name
        # A separate user of the workers has no access to the run directory.
        self.socket_path = (self._template.run_dir.path if sandbox.user is None else scratch) / f"{name}{SOCKET_SUFFIX}"
        argv = [*self._template.argv, "--socket", str(self.socket_path)]
        own = {"TMPDIR": str(scratch), "HOME": sandbox.home(self._template.env.get("HOME"), scratch)}
        env = {**self._template.env, **({WARM_UP_ENV: WARM_UP_LENIENT} if proven else {}), **own}
        child = Child(
            self._template.title, ProcessSpec(argv, env, (), sandbox.user, self._template.unresponsive_s), self._on_message, self._on_exit
        )
        self._scratch = sandbox.create_scratch_folder(name)
        child.start()
        self.child = child
        sandbox.limit_memory(child.pid)
        self._priority = LoweredPriority(child.pid, extra_niceness)

    def restore_priority(self) -> None:
        """Restores the normal priority of the process, since it has started. Idempotent."""
        if self._priority is not None:
            self._priority.restore()
            self._priority = None

    def hold_socket(self) -> bool:
        """Keeps a descriptor of the socket on which the process listens. Returns False, and kills the process, if the file is gone."""
        user = self._template.sandbox.user
        try:
            self._socket_fd = os.open(self.socket_path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
            if os.fstat(self._socket_fd).st_uid != (os.getuid() if user is None else user.uid):
                raise PermissionError(errno.EPERM, "another user has put it there")
        except OSError as exc:
            self.kill(f"its socket {self.socket_path} cannot be used: {exc.strerror}")
            return False
        return True

    def restore_scratch_folder(self) -> bool:
        """Makes the folder for temporary files of the process again if it was removed. Returns whether it was.

        Raises:
            OSError: It cannot be made.
        """
        if self.child is None or self._scratch is None or self._scratch.exists():
            return False
        self._template.sandbox.create_scratch_folder(self._scratch.name)
        return True

    def restore_socket(self) -> None:
        """Makes the socket of the process again if its file was removed, as a link to our descriptor of it.

        Front doors are started by this process and run as the same user, so the kernel lets them follow the link, and no other user.

        Raises:
            OSError: It cannot be made.
        """
        if self.child is not None and self._socket_fd >= 0 and not os.path.lexists(self.socket_path):
            self.socket_path.symlink_to(f"/proc/{os.getpid()}/fd/{self._socket_fd}")

    def on_ready(self) -> None:
        """Marks the process as ready, so that it can be sent requests about its caches."""
        assert self.child is not None
        self._ready_since = asyncio.get_running_loop().time()
        self.rpc = WorkerRpc(self.child.send)

    def kill(self, failure: str) -> None:
        """Kills the process because of `failure`."""
        self.failure = failure
        if self.child is not None:
            self.child.kill()

    def ready_s(self) -> float:
        """Returns the time for which the process has been ready, in seconds; 0 if it never was."""
        return asyncio.get_running_loop().time() - self._ready_since if self._ready_since is not None else 0.0

    def last_lines(self, count: int) -> list[str]:
        """Returns the last lines of the process's output."""
        return self.child.output.tail.last_lines(count) if self.child is not None else []

    def release(self, code: int) -> None:
        """Frees the resources of the process, after its exit with `code`, or after a start that was cancelled or failed."""
        self.child = self._priority = None
        if self.rpc is not None:
            self.rpc.close(f"the worker {describe_exit(code)}")
            self.rpc = None
        if self._socket_fd >= 0:
            os.close(self._socket_fd)
            self._socket_fd = -1
        if self.socket_path.name:  # else it was never spawned
            with contextlib.suppress(OSError):  # another user may own the folder by now
                self.socket_path.unlink(missing_ok=True)
        if self._scratch is not None:
            remove_in_background(self._scratch)
            self._scratch = None
