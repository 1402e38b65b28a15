"""The supervisor: binds the socket, ties dist/, the releases and the front doors together, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from base.backoff import Backoff
from base.errors import PexdockError
from base.ipc.control import Configure, MetricsReport, RequestsSent, WorkerUnhealthy
from runtime.blocking import BlockingThreads
from runtime.file_watch import FileWatch
from runtime.settings import Settings
from runtime.supervisor.dist.mirror import DistMirror
from runtime.supervisor.dist.mirror_loop import MirrorLoop
from runtime.supervisor.dist.object_store import RemoteDist
from runtime.supervisor.dist.watcher import DistWatcher
from runtime.supervisor.fleet.fleet import Fleet
from runtime.supervisor.host.listeners import local_url
from runtime.supervisor.host.process_tree import kill_descendants
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_door import FrontDoorReport
from runtime.supervisor.processes.front_doors import FrontDoorGroup
from runtime.supervisor.processes.recycling import requests_sent_interval
from runtime.supervisor.releases.managed_release import ReleaseContext
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.status.banner import announce
from runtime.supervisor.status.state import ReleaseReport, State, now
from runtime.supervisor.status.state_feed import StateFeed
from runtime.supervisor.status.state_file import write_state

log = logging.getLogger(__name__)

_STATE_AGAIN_S = 2.0

_REAP_S = 5.0
"""SIGKILL needs no time, but a process may be stuck in the kernel."""


class AdminServer(Protocol):
    """The server that operators send their requests to. It runs on the supervisor's loop."""

    @property
    def address(self) -> str:
        """URL of its TCP listener; empty without one."""

    async def start(self) -> None:
        """Accepts connections."""

    async def close(self) -> None:
        """Closes all listeners and connections."""


class Supervisor:
    """One run of it. All its parts live on one loop, so each change is seen whole by the others."""

    def __init__(self, plant: ReleaseContext, clients: Sequence[socket.socket], kept: PolicyStore, show: Callable[[str], None]) -> None:
        settings = plant.settings
        self._clients = clients
        self._settings, self._store, self._run_path, self._report = settings, plant.store, plant.run_path, plant.report
        self._show: Callable[[str], None] | None = show
        self._address = local_url(clients[0], "http" if settings.tls is None else "https")
        self._started = now()
        self._asked_to_stop = asyncio.Event()
        self._hurried = asyncio.Event()
        self._lag_s = settings.pre_stop_delay_s
        self._threads = BlockingThreads(settings.start_parallel)
        self.fleet = Fleet(plant, settings.dist_path, self._threads, kept, self._changed)
        self._evidence = FileWatch(plant.trust.paths, self.fleet.look_again) if plant.trust else None
        limits = Configure(
            body_max_bytes=int(settings.body_max_bytes),
            request_timeout_s=settings.request_timeout_s,
            shared_memory_max_bytes=int(settings.shared_memory_max_bytes),
            connections_max=settings.connections_max,
            queue_max_rows=settings.queue_max_rows,
            queue_max_bytes=int(settings.queue_max_bytes),
            queue_max_wait_s=settings.queue_max_wait_s,
            priorities=settings.priorities,
            drain_s=settings.drain_s,
            metrics=settings.measuring,
            access_log=settings.access_log_path,
            tls=settings.tls,
            api_keys_path=None if settings.api_keys_path is None else str(settings.api_keys_path),
            requests_sent_interval=requests_sent_interval(settings.worker_recycle_requests),
        )
        backoff = Backoff(settings.restart_delay_min_s, settings.restart_delay_max_s)
        self._doors = FrontDoorGroup(clients, limits, backoff, self._changed, self._hear)
        self.changes = StateFeed()
        self._follower = _follower(settings, self._changed)
        self._admin_address = ""
        self._published = 0
        self._routed: set[str] = set()  # digests of the releases that front doors send requests to
        self._shown_state: State | None = None
        self._state_again: asyncio.TimerHandle | None = None  # while it could not be written
        self._sweep: asyncio.Task[None] | None = None
        self._swept: set[str] | None = None  # digests that may have something in the cache

    async def run(self, admin: AdminServer) -> None:
        """Until a signal asks for the end, or dist/ cannot be watched any more."""
        loop = asyncio.get_running_loop()
        self._admin_address = admin.address
        await admin.start()
        for number in _stop_signals():
            loop.add_signal_handler(number, self._note_signal, number)
        watching = loop.create_task(self._watch())
        stopping = loop.create_task(self._asked_to_stop.wait())
        evidence = loop.create_task(self._evidence.run()) if self._evidence else None
        try:
            self._doors.start()
            await asyncio.wait({watching, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await self._shut_down()
        finally:
            stopping.cancel()
            watching.cancel()
            if evidence is not None:
                evidence.cancel()
            for child in self._children():
                child.close()
            kill_descendants()
            await admin.close()  # at last, since its answers come from workers; whoever hangs in it is not waited for
        with contextlib.suppress(asyncio.CancelledError):
            try:
                await watching
            except OSError as exc:
                raise PexdockError(f"{self._settings.dist_path} cannot be watched: {exc}") from exc

    async def _watch(self) -> None:
        """Watch dist/, and have it follow an object store where one is named. One that cannot be asked delays the start, and no more."""
        watch = DistWatcher(self._settings.dist_path, self._settings.stable_for_s, self.fleet.take)
        if self._follower is None:
            await watch.run()
            return
        following = asyncio.get_running_loop().create_task(self._follower.run())
        try:
            await self._follower.first_sync_done.wait()
            await watch.run()
        finally:
            following.cancel()

    def _note_signal(self, number: int) -> None:
        log.info("%s: %s", signal.Signals(number).name, "killing what is left" if self._asked_to_stop.is_set() else "finishing")
        if self._asked_to_stop.is_set():
            self._hurried.set()
        if number != signal.SIGTERM:  # people at a terminal send it, and nobody routes to that
            self._lag_s = 0.0
        self._asked_to_stop.set()

    async def _shut_down(self) -> None:
        """Requests in flight are answered: front doors finish first, and only then its workers go."""
        deadline = time.monotonic() + self._settings.drain_s
        if self._lag_s:
            self._doors.report_not_ready()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._hurried.wait(), self._lag_s)
        self.fleet.stop()
        self._doors.drain()
        for listener in self._clients:  # front doors have descriptors of their own; with the last of them gone clients are refused at once
            listener.close()
        await self._wait_gone(self._doors.children, deadline)
        self.fleet.end_workers()
        await self._wait_gone(self._children(), deadline)
        log.info("everything has ended")

    async def _wait_gone(self, children: Sequence[Child], deadline: float) -> None:
        """Wait for `children` to end; kill them when the time is over or somebody is in a hurry."""
        gone = asyncio.ensure_future(asyncio.gather(*(child.exited.wait() for child in children)))
        hurried = asyncio.ensure_future(self._hurried.wait())
        either: set[asyncio.Future[Any]] = {gone, hurried}
        await asyncio.wait(either, timeout=max(0.0, deadline - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        for child in children:
            if not child.exited.is_set():
                log.warning("%s did not end in time and is killed", child.name)
                child.kill()
        await asyncio.wait({gone}, timeout=_REAP_S)
        gone.cancel()

    def _children(self) -> list[Child]:
        workers = [worker.child for worker in self.fleet.workers()]
        return [child for child in workers if child is not None] + self._doors.children

    def _hear(self, word: FrontDoorReport) -> None:
        """What a front door tells without being asked."""
        if isinstance(word, MetricsReport):
            self._report(word)
        elif isinstance(word, WorkerUnhealthy | RequestsSent):
            for worker in self.fleet.workers():
                worker.on_front_door_report(word)
        else:
            self.fleet.rollouts.heard(word)

    def _changed(self) -> None:
        """Something has happened: publish what follows from it."""
        table = self.fleet.table
        if table.generation > self._published:
            self._published = table.generation
            self._doors.publish_table(table)
        self.fleet.unroute(self._doors.has_drained)
        if self._doors.applied_generation >= table.generation:
            self._routed = {route.release_id for route in table.routes}
        self._write_state()
        if self._show is not None and table.startup_complete and self._doors.applied_generation >= table.generation:
            self._show(announce(self._state(), table.routes))
            self._show = None
        self._sweep_cache()

    def _sweep_cache(self) -> None:
        """Clean the cache when the start is over, and again whenever something in it is not needed any more."""
        digests = self.fleet.digests()
        idle = self._sweep is None or self._sweep.done()
        if idle and self._show is None and self.fleet.is_quiet and (self._swept is None or self._swept - digests):
            self._swept = digests
            bound = int(self._settings.cache_max_bytes)
            self._sweep = asyncio.get_running_loop().create_task(self._threads.run(lambda: self._store.evict(digests, bound)))
            self._sweep.add_done_callback(self._has_swept)
        elif self._swept is not None:
            self._swept |= digests

    def _has_swept(self, sweep: asyncio.Task[None]) -> None:
        if not sweep.cancelled() and (error := sweep.exception()) is not None:
            log.warning("the cache cannot be cleaned: %s: %s", type(error).__name__, error)
        self._sweep_cache()

    def _state(self) -> State:
        return State(
            dist_path=str(self._settings.dist_path),
            dist_url=self._settings.dist_url or "",
            dist_reason=self._follower.reason if self._follower is not None else "",
            pid=os.getpid(),
            address=self._address,
            admin_address=self._admin_address,
            started=self._started,
            generation=self.fleet.table.generation,
            applied=self._doors.applied_generation,
            settled=self.fleet.table.startup_complete,
            front_door_pids=self._doors.pids,
            releases=[self._as_clients_see(report) for report in self.fleet.reports()],
            models=self.fleet.rollouts.reports(),
        )

    def drain(self) -> None:
        """Shuts down in order, as at SIGTERM."""
        self._asked_to_stop.set()

    def current_state(self) -> State:
        """Returns the state, once everything that follows from what has happened so far is decided."""
        self.fleet.settle()
        return self._state()

    def _as_clients_see(self, report: ReleaseReport) -> ReleaseReport:
        """A release whose worker is ready is so for clients only once every front door knows of it."""
        unrouted = report.kind == "model" and report.state == "ready" and report.sha256 not in self._routed
        return msgspec.structs.replace(report, state="starting") if unrouted else report

    def _write_state(self) -> None:
        current = self._state()
        if current != self._shown_state:
            self._shown_state = current
            self.changes.notify()
            self._keep_state(current)

    def _keep_state(self, current: State) -> None:
        """Write it, and again soon where that fails: a full disk must not stop the service, and what comes last may come for long."""
        failed_before = self._state_again is not None
        if self._state_again is not None:
            self._state_again.cancel()
            self._state_again = None
        try:
            write_state(self._run_path, current)
        except OSError as exc:
            if not failed_before:
                log.error("the state cannot be written, and is tried again: %s", exc)  # noqa: TRY400 - the reason says it all
            self._state_again = asyncio.get_running_loop().call_later(_STATE_AGAIN_S, self._keep_state, current)


def _follower(settings: Settings, changed: Callable[[], None]) -> MirrorLoop | None:
    """What has dist/ follow an object store, where one is named.

    Raises:
        PexdockError: the URL means nothing.
    """
    if settings.dist_url is None:
        return None
    mirror = DistMirror(RemoteDist(settings.dist_url), settings.dist_path, int(settings.pex_max_bytes))
    return MirrorLoop(mirror, settings.dist_poll_s, changed)


def _stop_signals() -> list[signal.Signals]:
    """Those that end us in order. `nohup` has SIGHUP ignored, and it stays so."""
    hangup = [] if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [signal.SIGHUP]
    return [signal.SIGTERM, signal.SIGINT, *hangup]
