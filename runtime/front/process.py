"""The process of a front door: follows the control messages of its parent."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import logging
import socket
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder

import numpy.ma  # noqa: F401 - Arrow imports it for its first array of numpy, which would take 80 ms of a request
import uvloop

from base.ipc.control import Drain, ExitCode
from base.ipc.front_door_control import (
    AcceptAlso,
    Configure,
    Listening,
    ModelStates,
    ReportNotReady,
    RoutesDrained,
    RoutingTable,
    TableApplied,
)
from base.log import stderr_handler
from base.process import outlive_parent
from base.telemetry.loop_watchdog import LoopWatchdog
from runtime.file_watch import watch_log
from runtime.front.app.service import InferenceService
from runtime.front.control_channel import ParentChannel
from runtime.front.memory.table_files import TableFiles
from runtime.front.orphans import OrphanReaper
from runtime.front.reporter import FrontReporter
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.server import FrontServer
from runtime.front.telemetry.access_log import open_access_log
from runtime.front.workers.link import WorkerLink

log = logging.getLogger(__name__)

_WELCOME_S = 1.0
"""Time limit for new workers to answer before a table is applied, in seconds. An idle worker answers within a millisecond."""

_SWITCH_INTERVAL_S = 0.0005
"""Time that the event loop waits for another thread's Python code, in seconds. By default it would wait for 5 ms in each iteration."""


class FrontProcess:
    """Builds the parts of a front door, and applies the routing tables that its parent sends.

    Args:
        control: Our end of the parent's socket.
        listeners: Bound, and maybe listening already.
        stdout_fd: Where lines go that the access log writes to standard output.
    """

    def __init__(self, control: socket.socket, listeners: Sequence[socket.socket], stdout_fd: int) -> None:
        self._channel = ParentChannel(control)
        self._listeners = listeners
        self._stdout_fd = stdout_fd
        self._orphans = OrphanReaper()

    async def run(self) -> ExitCode:
        """Serves until the parent sends Drain or is gone."""
        channel = self._channel
        channel.start()
        configure = await channel.receive()
        if not isinstance(configure, Configure):
            return ExitCode.PARENT_GONE
        reporter = FrontReporter(channel, configure.metrics)
        deadlines, limits = Deadlines(configure.request_timeout_s), QueueLimits.from_configuration(configure)
        dispatchers = Dispatchers(
            limits, configure.shared_memory_max_bytes, deadlines, reporter.metrics, reporter.outcomes, reporter.on_worker_event
        )
        dispatchers.report_interval_requests = configure.requests_sent_interval or sys.maxsize
        service = InferenceService(
            dispatchers, configure.body_max_bytes, reporter.mirror_stats, reporter.on_model_requested, TableFiles(configure)
        )
        # Connections wait in the backlog until there is a table: without one, a restarted front door would answer 404 and 503.
        first = await channel.receive()
        if isinstance(first, ModelStates):
            service.readiness.set_states(first)
            first = await channel.receive()
        if not isinstance(first, RoutingTable):
            return ExitCode.OK if isinstance(first, Drain) else ExitCode.PARENT_GONE
        await self._apply(service, first)
        with open_access_log(configure.access_log, self._stdout_fd) as access_log:
            server = FrontServer(service, configure, access_log)
            if access_log is not None and configure.access_log is not None:
                channel.run_in_background(watch_log(configure.access_log, access_log.reopen))
            outlive_parent()  # from here on a client may wait for a response
            await server.listen(self._listeners)
            gc.collect()
            gc.freeze()  # the objects that exist now stay, so collections need not visit them
            LoopWatchdog("a front door", configure.loop_turn_warn_ms, reporter.on_slow_turn).start()
            await channel.send(Listening())
            await self._confirm(dispatchers, first)
            code = await self._follow(service, dispatchers, server, limits)
            service.withdraw()
            dispatchers.stop()
            await server.stop()
        if code is ExitCode.PARENT_GONE:
            self._orphans.kill_orphans()
        await reporter.report()
        channel.close()
        return code

    async def _follow(self, service: InferenceService, dispatchers: Dispatchers, server: FrontServer, limits: QueueLimits) -> ExitCode:
        """Handles messages until the parent wants this process to exit."""
        while True:
            message = await self._channel.receive()
            match message:
                case RoutingTable():
                    await self._apply(service, message)
                    await self._confirm(dispatchers, message)
                case ModelStates():
                    service.readiness.set_states(message)
                case Configure():
                    limits.reconfigure(message)
                    service.set_body_limit(message.body_max_bytes)
                    server.reconfigure(message)
                case ReportNotReady():
                    service.withdraw()
                case AcceptAlso():
                    server.accept_also(message.listen_fds)
                case Drain():
                    return ExitCode.OK
                case _:
                    return ExitCode.PARENT_GONE

    async def _apply(self, service: InferenceService, table: RoutingTable) -> None:
        """Applies a table once its new workers have answered. A worker that is busy for long delays it by at most _WELCOME_S."""
        await service.load(table)
        for connect in (service.prepare, service.apply):
            links = connect(table)
            for link in links:
                self._orphans.track_worker(link.worker_pid)
            await _wait_welcomed(links)

    async def _confirm(self, dispatchers: Dispatchers, table: RoutingTable) -> None:
        """Reports to the parent that a table is in force, and later that the previous releases have answered all their requests."""

        async def confirm_drained() -> None:
            await dispatchers.wait_drained()
            gc.collect()  # takes about 2 ms; releases are reference cycles, which Python alone would collect only after a hundred tables
            await self._channel.send(RoutesDrained(table.generation))

        await self._channel.send(TableApplied(table.generation))
        self._channel.run_in_background(confirm_drained())


async def _wait_welcomed(links: Sequence[WorkerLink]) -> None:
    welcomes = [asyncio.ensure_future(link.wait_welcomed()) for link in links]
    if welcomes:
        await asyncio.wait(welcomes, timeout=_WELCOME_S)


class _WithoutPandas(MetaPathFinder):
    """Hides pandas, which pyarrow would import for its first array. That costs 45 MB and half a second, and a front door never uses it."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:  # noqa: ARG002 - the import system's signature
        """Raises ModuleNotFoundError for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError("a front door runs without pandas", name=fullname)


def _share_free_memory() -> None:
    """Makes all threads allocate from one heap, so that what one has freed is there for the next. By default, each would keep its own."""
    with contextlib.suppress(AttributeError):  # another C library than glibc
        ctypes.CDLL(None).mallopt(_MALLOC_HEAPS, 1)


_MALLOC_HEAPS = -8
"""The parameter of mallopt(3) that limits the number of heaps."""


def run(control: socket.socket, listeners: Sequence[socket.socket], stdout_fd: int) -> ExitCode:
    """Runs one front door over sockets that the parent made, until the parent sends Drain or is gone.

    Args:
        control: Our end of the parent's socket.
        listeners: Bound, and maybe listening already.
        stdout_fd: Where lines go that the access log writes to standard output.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    _share_free_memory()
    logging.basicConfig(handlers=[stderr_handler()], level=logging.INFO)
    try:
        return uvloop.run(FrontProcess(control, listeners, stdout_fd).run())
    except Exception:
        log.critical("the front door crashed", exc_info=True)
        return ExitCode.CRASHED
