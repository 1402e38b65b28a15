"""The shutdown of a supervisor, which signals or the admin API request, and which stops all parts in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from runtime.http.listener_drain import refuse_connections
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.job_runner import JobRunnerChild
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_doors import FrontDoorGroup

log = logging.getLogger(__name__)

_REAP_S = 5.0
"""Time limit for the exit after SIGKILL, in seconds. Only a process that is stuck in the kernel takes longer than a moment."""


_SAME_REQUEST_S = 1.0
"""Time after the first signal within which others belong to it, in seconds. `timeout` signals its child, and then its whole group;
service managers may send SIGHUP after SIGTERM."""


_GIVE_BACK_S = 2.0
"""Time for the job runner to note which jobs it gives back, in seconds."""

_UNWANTED_S = 1.5
"""Time for job workers to exit, in seconds. Those that go on compute jobs that were given back."""


class Shutdown:
    """Waits until a shutdown is requested, and drains all processes in order.

    Args:
        drain_s: Time limit for requests in flight, in seconds.
        pre_stop_delay_s: Part of `drain_s` in which front doors report not ready and keep serving. It applies only to SIGTERM and the admin
            API.
    """

    def __init__(self, drain_s: float, pre_stop_delay_s: float) -> None:
        self._drain_s = drain_s
        self.pre_stop_delay_s = pre_stop_delay_s
        self._signalled_s: float | None = None  # when the first signal came
        self._hurried = asyncio.Event()
        self.requested = asyncio.Event()

    def install_signal_handlers(self, reload: Callable[[], None]) -> None:
        """Makes SIGTERM and SIGINT request the shutdown, and SIGHUP call `reload`. If SIGHUP is ignored, as with `nohup`, it stays ignored.

        SIGHUP requests the shutdown, too, if it says that the terminal was closed in which the supervisor was started.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            loop.add_signal_handler(signal.SIGHUP, self._on_hangup, reload, _has_terminal())

    def _on_hangup(self, reload: Callable[[], None], had_terminal: bool) -> None:
        if self.requested.is_set() or (had_terminal and not _has_terminal()):
            self._on_signal(signal.SIGHUP)
        else:
            log.info("SIGHUP: reading the settings again")
            reload()

    def request(self) -> None:
        """Requests the shutdown, as SIGTERM does."""
        self.requested.set()

    def _on_signal(self, number: int) -> None:
        name, now_s = signal.Signals(number).name, time.monotonic()
        if self._signalled_s is None:
            self._signalled_s = now_s
            log.info("%s: shutting down", name)
            if number != signal.SIGTERM:  # sent by people at a terminal, where no load balancer needs time to notice
                self.pre_stop_delay_s = 0.0
            self.requested.set()
        elif now_s - self._signalled_s > _SAME_REQUEST_S:
            log.info("%s: killing the remaining processes", name)
            self._hurried.set()

    async def run(
        self,
        fleet: Fleet,
        front_doors: FrontDoorGroup,
        job_runner: JobRunnerChild,
        clients: Sequence[socket.socket],
        children: Callable[[], list[Child]],
    ) -> None:
        """Answers the requests in flight, then stops the front doors, the job runner once none asks it any more, and at last the workers.

        Args:
            fleet: The fleet, which is stopped.
            front_doors: The front doors.
            job_runner: The job runner, which has begun meanwhile to wait for its jobs or give them back.
            clients: Listening sockets of the front doors, which are closed.
            children: Returns all processes that run now.
        """
        began_s = time.monotonic()
        deadline = began_s + self._drain_s
        job_runner.report_not_ready()
        if self.pre_stop_delay_s:
            front_doors.report_not_ready()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), self.pre_stop_delay_s)
        fleet.stop()
        refuse_connections(clients)
        front_doors.drain()
        for listener in clients:  # each front door has its own descriptor; once the last one exits, clients are refused at once
            listener.close()
        await self._wait_exited(front_doors.children, deadline)
        job_runner.drain()
        jobs_deadline = max(deadline, began_s + job_runner.drain_s + _GIVE_BACK_S)
        await self._wait_exited(job_runner.children, jobs_deadline)
        fleet.stop_workers()
        unwanted = [worker.child for each in fleet.releases for worker in each.job_workers.processes if worker.child is not None]
        await self._wait_exited(unwanted, min(deadline, time.monotonic() + _UNWANTED_S))
        last = children()
        await self._wait_exited(last, deadline)
        if left := [child.name for child in last if not child.exited.is_set()]:
            log.warning("the kernel has not ended these processes although they were killed: %s", ", ".join(left))
        else:
            log.info("all processes have exited")

    async def _wait_exited(self, children: Sequence[Child], deadline: float) -> None:
        """Waits until `children` have exited; kills them at the deadline or on a second signal."""
        exited = asyncio.ensure_future(asyncio.gather(*(child.exited.wait() for child in children)))
        hurried = asyncio.ensure_future(self._hurried.wait())
        either: set[asyncio.Future[Any]] = {exited, hurried}
        await asyncio.wait(either, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for child in children:
            if not child.exited.is_set():
                log.warning("%s did not exit in time and is killed", child.name)
                child.kill()
        await asyncio.wait({exited}, timeout=_REAP_S)
        exited.cancel()


def _has_terminal() -> bool:
    """Returns whether this process has a controlling terminal that is open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True
