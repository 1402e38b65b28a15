"""The process of the job runner, which is started when somebody needs it, and the socket on which it listens."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import msgspec

from base.backoff import Backoff
from base.ipc.front_door_control import Configure, JobRunnerConfig
from base.process import module_command
from runtime.blocking import BlockingThreads
from runtime.jobs.files import JobFiles
from runtime.settings import Settings
from runtime.supervisor.front_door_config import front_door_config
from runtime.supervisor.host.run_dir import JOBS
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_door import FrontDoorChild, FrontDoorReport, FrontDoorTiming, Listeners
from runtime.supervisor.processes.sandbox import User

_MODULE = "runtime.job_runner"

_UNLIMITED = 2**53 - 1
"""More rows and bytes than there can be. Jobs are limited where they are accepted, and only a few are in the queues of the runner."""

_BACKLOG = 512

_GOOD_S = 10.0
"""Time in seconds of service after which a crash is the first one again: all requests about jobs wait until the next start."""


class JobRunnerChild(FrontDoorChild):
    """The job runner. It is started at once if there are jobs of an earlier supervisor, or else when the first client connects.

    Args:
        run_path: The run directory, in which its socket is made.
        settings: All settings.
        on_changed: Called when it listens, when it has applied a table and when it has exited.
        on_report: Called with its reports.
        on_crash: Called when it has exited although it is still needed.

    Attributes:
        drain_s: Time limit for its jobs when Pexdock stops, in seconds.

    Raises:
        OSError: The socket cannot be made.
    """

    def __init__(
        self,
        run_path: Path,
        settings: Settings,
        on_changed: Callable[[], None],
        on_report: Callable[[FrontDoorReport], None],
        on_crash: Callable[[], None],
    ) -> None:
        self._path = run_path / JOBS
        self._listener = socket.socket(socket.AF_UNIX)
        with contextlib.ExitStack() as on_error:
            on_error.callback(self._listener.close)
            self._listener.bind(str(self._path))
            self._path.chmod(0o600)
            self._listener.listen(_BACKLOG)
            on_error.pop_all()
        self._disk = BlockingThreads(1, f"run_path ({run_path})")
        self._has_jobs = settings.job_workers > 0 and JobFiles(settings.state_path).database.exists()
        self._activated = False
        self._on_crash = on_crash
        self.drain_s = settings.job_drain_s
        timing = FrontDoorTiming(
            Backoff(settings.restart_delay_min_s, settings.restart_delay_max_s, reset_s=_GOOD_S),
            settings.start_timeout_s,
            settings.unresponsive_s,
        )
        super().__init__("job runner", Listeners([self._listener], []), job_runner_config(settings), timing, on_changed, on_report)

    @property
    def children(self) -> list[Child]:
        """The process, if it runs now."""
        return [] if self.child is None else [self.child]

    def activate(self) -> None:
        """Starts the process, now or at the first connection."""
        if self._has_jobs:
            self._start_first()
        else:
            asyncio.get_running_loop().add_reader(self._listener.fileno(), self._start_first)

    def drain(self) -> None:
        """Makes the process finish or give back its jobs, and exit. It is not started any more."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        super().drain()

    async def restore_socket(self) -> None:
        """Makes the file of the socket again if it was removed, as a link to our descriptor of the socket.

        Raises:
            OSError: It cannot be made.
        """
        await self._disk.run(self._link_socket)

    def close(self) -> None:
        """Closes the socket."""
        self._listener.close()

    def _on_exit(self, code: int) -> None:
        if not self._stopping:
            self._on_crash()
        super()._on_exit(code)

    def _link_socket(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._path.symlink_to(f"/proc/{os.getpid()}/fd/{self._listener.fileno()}")

    def _start_first(self) -> None:
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        if not self._activated:
            self._activated = True
            self.start()

    def _make_command(self, listen_fds: Sequence[int], stdout_fd: int) -> tuple[list[str], dict[str, str]]:  # noqa: ARG002 - it writes none
        command, variables = module_command(_MODULE)
        return [*command, "--listen-fd", str(listen_fds[0])], variables


def _runner_config(settings: Settings) -> JobRunnerConfig:
    return JobRunnerConfig(
        state_path=str(settings.state_path),
        limits=asdict(settings.job_limits),
        workers=settings.job_workers,
        timeout_s=settings.job_timeout_s,
        cancel_grace_s=settings.job_cancel_grace_s,
        drain_s=settings.job_drain_s,
        webhooks=msgspec.to_builtins(settings.job_webhooks),
        worker_owner=None if settings.worker_user is None else User.look_up(settings.worker_user)[:2],
    )


def job_runner_config(settings: Settings) -> Configure:
    """Returns the configuration of the job runner: that of a front door with the limits of jobs, and nothing that is for HTTP."""
    return msgspec.structs.replace(
        front_door_config(settings),
        request_timeout_s=settings.job_timeout_s,
        queue_max_rows=_UNLIMITED,
        queue_max_bytes=_UNLIMITED,
        queue_max_wait_s=None,
        priorities=False,
        access_log=None,
        tls=None,
        api_keys_path=None,
        requests_sent_interval=0,
        job_runner=_runner_config(settings),
    )
