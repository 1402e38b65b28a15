"""One run of a worker's process, from spawn to exit, and the resources that it uses. Runs in the supervisor.

Threads do everything that needs a disk, one step of a run after the other. So if a folder hangs, only the workers that need it wait.
"""

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
from base.ipc.control import BATCH_CHECK_ENV, BATCH_CHECK_OFF, WARM_UP_ENV, WARM_UP_LENIENT, ControlMessage
from base.ipc.metrics_report import MetricsReport
from runtime.blocking import BlockingThreads
from runtime.supervisor.host.niceness import LoweredPriority, lower_priority
from runtime.supervisor.host.run_dir import SOCKET_SUFFIX, RunDir
from runtime.supervisor.processes.child import INTERPRETER, Child, ProcessSpec, describe_exit
from runtime.supervisor.processes.sandbox import Sandbox, remove_folder
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
        nice: Extra niceness of a worker once it is ready, for good.
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
    nice: int = 0


class WorkerRun:
    """One process of a worker.

    Args:
        template: Parameters of its start.
        on_message: Called with each control message of the process.
        on_exit: Called with its exit status.

    Attributes:
        task: Spawns the process, or takes it into service. It is cancelled if the process exits, or is no longer needed, before.
        child: The process; None before `spawn`, and after the exit.
        socket_path: Socket on which it listens for front doors; an empty path before `spawn`.
        rpc: Requests about its caches; None unless it is ready.
        requests_sent: Number of requests to it that front doors have reported.
        failure: Reason why it is about to exit, if that is known; empty otherwise.
        has_reported: Whether it has said that it is ready, or why it cannot be. Otherwise it may have crashed in its warm-up.
        cannot_load: Whether it has reported that it cannot load. That does not change until its file changes.
    """

    def __init__(self, template: WorkerTemplate, on_message: Callable[[ControlMessage], None], on_exit: Callable[[int], None]) -> None:
        self._template = template
        self._on_message, self._on_exit = on_message, on_exit
        self._priority: LoweredPriority | None = None
        self._disk = BlockingThreads(1, f"the folders of a worker of {template.title}")
        self._removing: asyncio.Task[None] | None = None
        self.task: asyncio.Task[None] | None = None
        self._scratch: Path | None = None
        self._socket_fd = -1  # leads to its socket even if the file was removed; only the threads use it
        self._ready_since: float | None = None
        self.child: Child | None = None
        self.socket_path = Path()
        self.rpc: WorkerRpc | None = None
        self.requests_sent = 0
        self.failure = ""
        self.has_reported = self.cannot_load = False

    async def spawn(self, *, proven: bool, checks_batches: bool, extra_niceness: int) -> None:
        """Makes the folders of the process, and spawns it.

        Args:
            proven: Whether a worker of this release was ready before, so that a failed warm-up is no reason to refuse the release.
            checks_batches: Whether it checks how handlers answer several rows, if the settings say so.
            extra_niceness: Niceness of the process until `restore_priority`.

        Raises:
            OSError: The process could not be spawned. Call `release` to remove its files.
            PexdockError: A folder that it needs was removed, and cannot be made again.
        """
        template, name, sandbox = self._template, f"w{next(_run_numbers)}", self._template.sandbox
        self._scratch = scratch = sandbox.scratch_path / name
        # A separate user of the workers has no access to the run directory.
        self.socket_path = (template.run_dir.path if sandbox.user is None else scratch) / f"{name}{SOCKET_SUFFIX}"
        home = await self._disk.run(self._make_folders)
        argv = [*template.argv, "--socket", str(self.socket_path)]
        warm_up = ({WARM_UP_ENV: WARM_UP_LENIENT} if proven else {}) | ({} if checks_batches else {BATCH_CHECK_ENV: BATCH_CHECK_OFF})
        env = {**template.env, **warm_up, "TMPDIR": str(scratch), "HOME": home}
        spec = ProcessSpec(argv, env, (), sandbox.user, template.unresponsive_s, INTERPRETER)
        child = Child(template.title, spec, self._on_message, self._on_exit)
        child.start()
        self.child = child
        sandbox.limit_memory(child.pid)
        self._priority = LoweredPriority(child.pid, extra_niceness)

    def _make_folders(self) -> str:
        """Makes the folders of the process, and returns its home folder."""
        template, scratch = self._template, self._scratch
        assert scratch is not None
        Path(template.argv[0]).stat()  # what the process executes is another path to the same file
        template.sandbox.restore_scratch_root()
        template.run_dir.restore()
        template.sandbox.create_scratch_folder(scratch.name)
        return template.sandbox.home(template.env.get("HOME"), scratch)

    def restore_priority(self) -> None:
        """Restores the normal priority of the process, since it has started. Idempotent."""
        if self._priority is not None:
            self._priority.restore()
            self._priority = None

    async def hold_socket(self) -> bool:
        """Keeps a descriptor of the socket on which the process listens. Returns False, and kills the process, if the file is gone."""
        try:
            await self._disk.run(self._open_socket)
        except OSError as exc:
            self.kill(f"its socket {self.socket_path} cannot be used: {exc.strerror}")
            return False
        return True

    def _open_socket(self) -> None:
        user = self._template.sandbox.user
        if self._socket_fd >= 0:  # it has reported ready twice
            return
        self._socket_fd = os.open(self.socket_path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        if os.fstat(self._socket_fd).st_uid != (os.getuid() if user is None else user.uid):
            raise PermissionError(errno.EPERM, "another user has put it there")

    async def restore_scratch_folder(self) -> bool:
        """Makes the folder for temporary files of the process again if it was removed. Returns whether it was.

        Raises:
            OSError: It cannot be made.
        """
        return self.child is not None and await self._disk.run(self._restore_scratch_folder)

    def _restore_scratch_folder(self) -> bool:
        if self._scratch is None or self._scratch.exists():
            return False
        self._template.sandbox.create_scratch_folder(self._scratch.name)
        return True

    async def restore_socket(self) -> None:
        """Makes the socket of the process again if its file was removed, as a link to our descriptor of it.

        Front doors are started by this process and run as the same user, so the kernel lets them follow the link, and no other user.

        Raises:
            OSError: It cannot be made.
        """
        if self.child is not None:
            await self._disk.run(self._link_socket)

    def _link_socket(self) -> None:
        if self._socket_fd < 0:
            return
        user, name = self._template.sandbox.user, self.socket_path.name
        folder = os.open(self.socket_path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # by the descriptor, since somebody may put another folder in its place at any time
            if os.fstat(folder).st_uid not in {os.geteuid(), -1 if user is None else user.uid}:
                raise PermissionError(errno.EPERM, "it belongs to another user", str(self.socket_path.parent))
            with contextlib.suppress(FileExistsError):
                os.symlink(f"/proc/{os.getpid()}/fd/{self._socket_fd}", name, dir_fd=folder)
        finally:
            os.close(folder)

    def on_ready(self) -> None:
        """Marks the process as ready, so that it can be sent requests about its caches."""
        assert self.child is not None
        self.has_reported = True
        self._ready_since = asyncio.get_running_loop().time()
        if self._template.nice:  # not before, or its start would take minutes on a busy machine
            lower_priority(self.child.pid, self._template.nice)
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

    def cancel_task(self) -> None:
        """Cancels the start of a process that is no longer needed."""
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def release(self, code: int) -> None:
        """Frees the resources of the process, after its exit with `code`, or after a start that was cancelled or failed."""
        self.cancel_task()
        self.child = self._priority = None
        if self.rpc is not None:
            self.rpc.close(f"the worker {describe_exit(code)}")
            self.rpc = None
        if self._scratch is not None and self._removing is None:  # else it was never spawned
            self._removing = asyncio.get_running_loop().create_task(self._disk.run(self._remove_files))

    def _remove_files(self) -> None:
        if self._socket_fd >= 0:
            os.close(self._socket_fd)
            self._socket_fd = -1
        with contextlib.suppress(OSError):  # another user may own the folder by now
            self.socket_path.unlink(missing_ok=True)
        if self._scratch is not None:
            remove_folder(self._scratch)
