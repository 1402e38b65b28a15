"""The supervisor: runs dist/, the releases, the front doors and the admin server together, and stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Protocol

from base.backoff import Backoff
from base.errors import PexdockError
from base.ipc.front_door_control import JobDemand, ModelsRequested, ModelStates, RequestsSent, WorkerUnhealthy
from base.ipc.metrics_report import MetricsReport
from base.telemetry.loop_watchdog import LoopWatchdog
from base.telemetry.reports import process_report
from runtime.blocking import BlockingThreads
from runtime.file_watch import FileWatch, watch_log
from runtime.path_errors import explain_os_error
from runtime.settings import Settings
from runtime.supervisor.cache_repair import CacheRepair
from runtime.supervisor.cache_sweeper import CacheSweeper
from runtime.supervisor.dist.mirror import DistMirror
from runtime.supervisor.dist.mirror_loop import MirrorLoop
from runtime.supervisor.dist.object_store import RemoteDist
from runtime.supervisor.dist.watcher import DistWatcher
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.folder_repair import FolderRepair
from runtime.supervisor.front_door_config import front_door_config
from runtime.supervisor.host.log_buffer import set_shown_level
from runtime.supervisor.host.process_tree import ZombieReaper, kill_descendants
from runtime.supervisor.job_runner import JobRunnerChild, job_runner_config
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_door import FrontDoorReport, FrontDoorTiming
from runtime.supervisor.processes.front_doors import FrontDoorGroup
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.rollout.probation import probation_rules
from runtime.supervisor.settings_reload import SettingsReloader
from runtime.supervisor.shutdown import Shutdown
from runtime.supervisor.state_publisher import StatePublisher
from runtime.supervisor.state_report import StateReporter
from runtime.supervisor.status.state import State
from runtime.supervisor.traffic.state_metrics import StateMetrics

log = logging.getLogger(__name__)

_FINISH_WRITES_S = 5.0
"""Time limit at the end for files that are still being written, in seconds. Only a disk that hangs takes longer than a moment."""


class AdminServer(Protocol):
    """The server for requests of operators, which runs on the supervisor's event loop."""

    @property
    def address(self) -> str:
        """URL of its TCP listener; empty without one."""

    async def start(self) -> None:
        """Accepts connections."""

    async def restore(self) -> None:
        """Makes its Unix socket again if the file was removed."""

    async def close(self) -> None:
        """Closes all listeners and connections."""


class Supervisor:
    """One run of a supervisor. All its parts share one event loop, so none of them sees a partial change of another.

    Args:
        context: Parts of the supervisor that every release needs.
        clients: Listening sockets of each front door.
        store: The traffic policies of an earlier supervisor.
        show: Prints the announcement once every pex in dist/ is ready or refused.
        load: Reads the settings again, for SIGHUP.
        reopen_metrics: Opens the file of the metrics again if it was renamed or removed.

    Attributes:
        fleet: All releases.
        publisher: Publishes the state.
        shutdown: Stops everything.
    """

    def __init__(
        self,
        context: ReleaseContext,
        clients: Sequence[Sequence[socket.socket]],
        store: PolicyStore,
        show: Callable[[str], None],
        load: Callable[[], Settings],
        reopen_metrics: Callable[[], None],
    ) -> None:
        settings = context.settings
        self._settings, self._report_metrics, self._clients = settings, context.report, [each for door in clients for each in door]
        self._reopen_metrics = reopen_metrics
        self._start_limiter = context.start_limiter
        self._published_generation = self._published_job_generation = 0
        self._published_states: ModelStates | None = None
        threads = BlockingThreads(settings.start_parallel)
        self.fleet = Fleet(context, threads, store, self._on_changed)
        self.shutdown = Shutdown(settings.drain_s, settings.pre_stop_delay_s)
        self._trust_files = FileWatch(context.trust.paths, self.fleet.schedule_decision) if context.trust else None
        backoff = Backoff(settings.restart_delay_min_s, settings.restart_delay_max_s)
        timing = FrontDoorTiming(backoff, settings.start_timeout_s, settings.unresponsive_s)
        self._front_doors = FrontDoorGroup(clients, front_door_config(settings), timing, self._on_changed, self._on_front_door_message)
        on_crash = self.fleet.job_demands.on_runner_crash
        self._job_runner = JobRunnerChild(context.run_dir.path, settings, self._on_changed, self._on_front_door_message, on_crash)
        self._mirror_loop = _mirror_loop(settings, self._on_changed)
        self._reporter = StateReporter(settings, clients[0], self.fleet, self._front_doors, self._mirror_loop)
        self.publisher = StatePublisher(context.run_dir, self._reporter.make_state, show)
        self._state_metrics = StateMetrics(self.fleet.states, settings.measuring, context.report)
        self._cache_repair = CacheRepair(context, self.fleet.releases)
        self._reloader = SettingsReloader(settings, load, self._apply_settings)
        self._context = context
        self._sweeper = CacheSweeper(context.store, threads, int(settings.cache_max_bytes), self.fleet.releases)

    async def run(self, admin: AdminServer) -> None:
        """Serves until a shutdown is requested, or dist/ can no longer be watched.

        Raises:
            PexdockError: dist/ cannot be watched. All processes have exited.
        """
        loop = asyncio.get_running_loop()
        LoopWatchdog("the supervisor", self._settings.loop_turn_warn_ms, self._on_slow_turn).start()
        self._reporter.admin_address = admin.address
        await admin.start()
        self.shutdown.install_signal_handlers(self._reloader.reload)
        zombies = ZombieReaper(lambda: {child.pid for child in self._children()}, self._notice_stops)
        zombies.start()
        watching = loop.create_task(self._watch_dist())
        stopping = loop.create_task(self.shutdown.requested.wait())
        file_watches = [loop.create_task(watch) for watch in self._file_watches(admin)]
        try:
            self._front_doors.start()
            self._job_runner.activate()
            self._state_metrics.start()
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            self.fleet.states.stop()
            self.publisher.publish()
            await self.shutdown.run(self.fleet, self._front_doors, self._job_runner, self._clients, self._children)
        finally:
            self._state_metrics.stop()
            stopping.cancel()
            watching.cancel()
            for watch in file_watches:
                watch.cancel()
            for child in self._children():
                child.close()
            zombies.stop()
            kill_descendants()
            self._job_runner.close()
            await admin.close()  # after the children, since workers answer its requests; this does not wait for its clients
            await self._finish_writes()
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await watching
            except OSError as exc:
                raise PexdockError(explain_os_error(exc, {"dist_path": self._settings.dist_path})) from exc

    def current_state(self) -> State:
        """Returns the state, after all decisions that follow from the events so far."""
        self.fleet.decide_pending()
        return self._reporter.make_state()

    def _file_watches(self, admin: AdminServer) -> list[Coroutine[None, None, None]]:
        """Returns what restores or reads files again that somebody removes or changes."""
        sockets = (admin.restore, self._job_runner.restore_socket)
        folders = FolderRepair(self._context, self.fleet.releases, self.fleet.records.store, self.publisher.restore_file, sockets)
        watches = [folders.run(), self._cache_repair.run()]
        if self._settings.emf_path is not None:
            watches.append(watch_log(self._settings.emf_path, self._reopen_metrics))
        if self._trust_files is not None:
            watches.append(self._trust_files.run())
        return watches

    async def _watch_dist(self) -> None:
        """Watches dist/, and mirrors an object store into it if one is set. An unreachable store delays only the start."""
        settings, on_change = self._settings, self.fleet.on_dist_events
        watcher = DistWatcher(settings.dist_path, settings.stable_for_s, settings.dist_poll_s, on_change, always_poll=settings.dist_poll)
        if self._mirror_loop is None:
            await watcher.run()
            return
        mirroring = asyncio.get_running_loop().create_task(self._mirror_loop.run())
        try:
            await self._mirror_loop.first_sync_done.wait()
            await watcher.run()
        finally:
            mirroring.cancel()

    async def _finish_writes(self) -> None:
        """Waits for the files that are being written, but not for long if a disk hangs."""
        loop = asyncio.get_running_loop()
        writes = {loop.create_task(self.fleet.records.store.finish()), loop.create_task(self.publisher.finish())}
        _, unfinished = await asyncio.wait(writes, timeout=_FINISH_WRITES_S)
        if unfinished:
            folders = self._settings.state_path, self._settings.run_path
            log.error("the latest changes in %s or %s could not be written, since a disk does not answer", *folders)

    def _children(self) -> list[Child]:
        """Returns all processes that run now."""
        workers = [worker.child for worker in self.fleet.releases.workers]
        return [child for child in workers if child is not None] + self._front_doors.children + self._job_runner.children

    def _apply_settings(self, settings: Settings) -> None:
        """Applies settings that were read again. Front doors read their keys and certificates again, too."""
        self._context.settings = settings
        self.fleet.shifter.rules, self.fleet.shifter.rollback_window_s = probation_rules(settings), settings.rollback_window_s
        self._sweeper.max_bytes = int(settings.cache_max_bytes)
        self.shutdown.pre_stop_delay_s = settings.pre_stop_delay_s
        self._front_doors.configure(front_door_config(settings))
        self._job_runner.configure(job_runner_config(settings))
        self.fleet.schedule_decision()  # it looks at trusted keys and digests again
        set_shown_level(settings.log_level)

    def _notice_stops(self) -> None:
        """Finds children that were stopped or continue. The kernel sends SIGCHLD then, and also when one exits."""
        if any([child.notice_stop() for child in self._children()]):  # noqa: C419 - of each child
            self._on_changed()

    def _on_front_door_message(self, message: FrontDoorReport) -> None:
        if isinstance(message, MetricsReport):
            self._report_metrics(message)
        elif isinstance(message, ModelsRequested):
            for model in message.models:
                self._start_limiter.prefer(model)
        elif isinstance(message, JobDemand):
            self.fleet.job_demands.set_demand(message)
        elif isinstance(message, WorkerUnhealthy | RequestsSent):
            for worker in self.fleet.releases.workers:
                worker.on_front_door_report(message)
        else:
            self.fleet.shifter.on_front_door_report(message)

    def _on_slow_turn(self, milliseconds: float) -> None:
        if self._settings.measuring is not None:
            self._report_metrics(process_report("supervisor", "LoopTurn", milliseconds))

    def _on_changed(self) -> None:
        """Publishes the routing table and the state after a decision, or after a change of a front door."""
        self._front_doors.share_listeners()
        table, states = self.fleet.table, self.fleet.states.message()
        if states != self._published_states:
            self._published_states = states
            self._front_doors.publish_states(states)
            self._job_runner.publish_states(states)
        if table.generation > self._published_generation:
            self._published_generation = table.generation
            self._front_doors.publish_table(table)
        jobs = self.fleet.job_table
        if jobs.generation > self._published_job_generation:
            self._published_job_generation = jobs.generation
            self._job_runner.publish_table(jobs)
        self.fleet.drain_unrouted_workers(self._front_doors.has_drained, self._job_runner.has_drained)
        self.publisher.publish()
        if table.startup_complete and not self.shutdown.requested.is_set() and self._front_doors.applied_generation >= table.generation:
            self.publisher.announce(table)
        if self.publisher.is_announced:
            self._sweeper.sweep_if_needed()


def _mirror_loop(settings: Settings, on_changed: Callable[[], None]) -> MirrorLoop | None:
    """Returns the loop that mirrors an object store into dist/; None if no store is set.

    Raises:
        PexdockError: The URL of the store is not valid.
    """
    if settings.dist_url is None:
        return None
    mirror = DistMirror(RemoteDist(settings.dist_url), settings.dist_path, int(settings.pex_max_bytes))
    return MirrorLoop(mirror, settings.dist_poll_s, on_changed)
