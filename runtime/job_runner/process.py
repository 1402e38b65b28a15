"""The process of the job runner: follows the control messages of the supervisor, and serves the socket of jobs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from base.errors import PexdockError
from base.ipc.control import ControlMessage, Drain, ExitCode
from base.ipc.front_door_control import (
    Configure,
    JobDemand,
    JobRunnerConfig,
    Listening,
    ReportNotReady,
    RoutesDrained,
    RoutingTable,
    TableApplied,
    WorkerUnhealthy,
)
from base.log import stderr_handler
from base.telemetry.loop_watchdog import LoopWatchdog
from base.telemetry.reports import process_report
from runtime.front.control_channel import ParentChannel
from runtime.front.memory.table_files import TableFiles
from runtime.front.reporter import FrontReporter
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.job_runner.api import JobApi
from runtime.job_runner.releases import JobReleases
from runtime.job_runner.runner import JobRunner
from runtime.jobs.store.interface import JobLimits, JobStoreUnusable
from runtime.jobs.store.sqlite_store import SqliteJobStore

log = logging.getLogger(__name__)

_REOPEN_S = 5.0
"""Interval in seconds at which a store that cannot be used is opened again."""


class RunnerProcess:
    """Builds the parts of the job runner, and applies the routing tables that the supervisor sends.

    Args:
        control: Our end of the supervisor's socket.
        listener: The socket of jobs, which listens already.
    """

    def __init__(self, control: socket.socket, listener: socket.socket) -> None:
        self._channel = ParentChannel(control)
        self._listener = listener
        self._config: JobRunnerConfig

    async def run(self) -> ExitCode:
        """Runs jobs until the supervisor sends Drain or is gone."""
        channel = self._channel
        channel.start()
        configure = await channel.receive()
        if not isinstance(configure, Configure) or configure.job_runner is None:
            return ExitCode.PARENT_GONE
        reporter = FrontReporter(channel, configure.metrics)
        limits, deadlines = QueueLimits.from_configuration(configure), Deadlines(configure.request_timeout_s)
        dispatchers = Dispatchers(limits, configure.shared_memory_max_bytes, deadlines, reporter.metrics, report=reporter.on_worker_event)
        dispatchers.batches_max = 1  # a second job would wait for the first, perhaps for hours, although another worker is starting
        releases = JobReleases(dispatchers, TableFiles(configure))
        self._config = configure.job_runner
        api = JobApi(await self._open_runner(releases, reporter))
        server = await api.listen(self._listener)
        LoopWatchdog("the job runner", configure.loop_turn_warn_ms, lambda ms: self._on_slow_turn(configure, ms)).start()
        await channel.send(Listening())
        failing = asyncio.get_running_loop().create_task(self._keep_open(api, releases, reporter))
        code = await self._follow(api, releases, failing)
        failing.cancel()
        if code is ExitCode.OK and isinstance(api.jobs, JobRunner):
            await api.jobs.drain()
        server.close()
        await reporter.report()
        channel.close()
        return code

    def _on_slow_turn(self, configure: Configure, milliseconds: float) -> None:
        if configure.metrics is not None:
            self._channel.run_in_background(self._channel.send(process_report("job runner", "LoopTurn", milliseconds)))

    async def _open_runner(self, releases: JobReleases, reporter: FrontReporter) -> JobRunner | PexdockError:
        """Returns the runner, or the reason why the store cannot be used now."""
        channel, config = self._channel, self._config
        limits = msgspec.convert(config.limits, JobLimits)

        def send(message: JobDemand | WorkerUnhealthy) -> None:
            if isinstance(message, JobDemand):
                channel.run_in_background(channel.send(message))
            else:
                reporter.on_worker_event(message)

        store: SqliteJobStore | None = None
        try:
            store = await asyncio.to_thread(SqliteJobStore, Path(config.state_path), limits)
            runner = JobRunner(store, store.files, releases, config, send)
            await runner.start()
        except PexdockError as exc:
            if store is not None:
                await asyncio.to_thread(store.close)
            return exc
        except OSError as exc:
            return JobStoreUnusable(f"the folder of jobs cannot be used: {exc}", "the folder of jobs cannot be used")
        return runner

    async def _keep_open(self, api: JobApi, releases: JobReleases, reporter: FrontReporter) -> None:
        """Opens a store that could not be opened again, since the reason may pass. Raises the error by which it is of no more use."""
        told = ""
        while not isinstance(api.jobs, JobRunner):
            if str(api.jobs) != told:
                told = str(api.jobs)
                log.critical("%s", told)
            await asyncio.sleep(_REOPEN_S)
            api.jobs = await self._open_runner(releases, reporter)
        await api.jobs.scheduler.failed

    async def _follow(self, api: JobApi, releases: JobReleases, failing: asyncio.Task[None]) -> ExitCode:
        """Handles messages until the supervisor wants this process to exit. Raises the error of `failing`."""
        while True:
            receiving: asyncio.Task[ControlMessage | None] = asyncio.ensure_future(self._channel.receive())
            either: list[asyncio.Future[Any]] = [receiving, failing]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if failing.done():
                failing.result()
            scheduler = api.jobs.scheduler if isinstance(api.jobs, JobRunner) else None
            match receiving.result():
                case RoutingTable() as table:
                    await releases.apply(table)
                    if scheduler is not None:
                        scheduler.begin_jobs()
                    await self._channel.send(TableApplied(table.generation))
                    await self._channel.send(RoutesDrained(table.generation))
                case Configure(job_runner=JobRunnerConfig() as config):
                    self._config = config
                    if scheduler is not None:
                        scheduler.reconfigure(config)
                case ReportNotReady() if scheduler is not None:
                    scheduler.begin_drain()
                case Drain():
                    return ExitCode.OK
                case None:
                    return ExitCode.PARENT_GONE
                case _:
                    pass  # the states of models say nothing about jobs


def run(control: socket.socket, listener: socket.socket) -> ExitCode:
    """Runs the job runner over sockets that the supervisor made, until the supervisor sends Drain or is gone.

    Args:
        control: Our end of the supervisor's socket.
        listener: The socket of jobs, which listens already.
    """
    logging.basicConfig(handlers=[stderr_handler()], level=logging.INFO)
    os.umask(0o077)  # records and results are for this user alone, also if a worker of another one may pass through their folders
    try:
        return uvloop.run(RunnerProcess(control, listener).run())
    except PexdockError as exc:  # the store is of no more use; the next process opens it again, and says why it cannot
        log.critical("%s", exc)
        return ExitCode.CRASHED
    except Exception:
        log.critical("the job runner crashed", exc_info=True)
        return ExitCode.CRASHED
