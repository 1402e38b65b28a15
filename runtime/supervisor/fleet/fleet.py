"""All releases of one dist/, and the decisions about them. Events change single releases, and `_decide` derives everything else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from packaging.utils import canonicalize_name

from base.ipc.front_door_control import RoutingTable
from runtime.blocking import BlockingThreads
from runtime.model_state import ReadinessPolicy
from runtime.supervisor.dist.stability import FileRemoved, FileStable
from runtime.supervisor.fleet.admission import Admission
from runtime.supervisor.fleet.base_choice import choose_bases
from runtime.supervisor.fleet.file_claims import FileClaims
from runtime.supervisor.fleet.job_demand import JobDemands
from runtime.supervisor.fleet.job_table import JobTableBuilder
from runtime.supervisor.fleet.path_owners import PathOwners
from runtime.supervisor.fleet.routing_table import RoutingTableBuilder
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_context import ReleaseContext
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout import conflicts, planner
from runtime.supervisor.rollout.path_claims import Claims
from runtime.supervisor.rollout.policy_store import PolicyStore
from runtime.supervisor.rollout.probation import probation_rules
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseEvent, ReleaseState
from runtime.supervisor.traffic.model_states import ModelStateTracker
from runtime.supervisor.traffic.orders import TrafficOrders
from runtime.supervisor.traffic.records import TrafficRecords
from runtime.supervisor.traffic.shifts import TrafficShifter

log = logging.getLogger(__name__)

_IDLE = frozenset({ReleaseState.VERIFYING, ReleaseState.WAITING, ReleaseState.STANDBY, ReleaseState.REFUSED, ReleaseState.FAILED})


class Fleet:
    """The releases, their workers and their traffic.

    Args:
        context: Parts of the supervisor that every release needs to be unpacked and started.
        threads: Threads for blocking work.
        store: The traffic policies of an earlier supervisor.
        on_decided: Called after every decision, once `table` and `states` are updated.

    Attributes:
        releases: All releases.
        records: The traffic policies and histories of all models.
        orders: Carries out the orders of operators.
        states: The states of all models.
        shifter: Shifts the traffic of models, and handles the reports of front doors.
        job_demands: Starts and stops job workers.
    """

    def __init__(self, context: ReleaseContext, threads: BlockingThreads, store: PolicyStore, on_decided: Callable[[], None]) -> None:
        settings = context.settings
        self._context = context
        self._on_decided = on_decided
        self._unsettled_at_start: set[str] | None = None  # files that were there at the start and are still being written
        self._paths_known = False
        self._compared: object = None  # the facts about which the last decision found no further conflict
        self._scheduled = False
        self._stopping = False
        self.releases = ReleaseSet()
        self.records = TrafficRecords(store, self.releases)
        self._routing = RoutingTableBuilder(self.records)
        self._job_routing = JobTableBuilder(self.releases)
        self._paths = PathOwners(self.records, self.releases)
        self.states = ModelStateTracker(self.records, ReadinessPolicy.parse(settings.readiness))
        self.orders = TrafficOrders(self.records, self.schedule_decision)
        self.shifter = TrafficShifter(self.records, probation_rules(settings), settings.rollback_window_s, self.schedule_decision)
        self.job_demands = JobDemands(self.releases, settings.job_workers, settings.job_idle_s, self.schedule_decision)
        self._claims = FileClaims(self.releases)
        self._admission = Admission(context, threads, self.releases, self._claims, self._new_release, self.schedule_decision)

    @property
    def table(self) -> RoutingTable:
        """Returns the newest routing table."""
        return self._routing.table

    @property
    def job_table(self) -> RoutingTable:
        """Returns the newest routing table of the job runner."""
        return self._job_routing.table

    def on_dist_events(self, events: Sequence[FileStable | FileRemoved], unsettled: set[str]) -> None:
        """Handles events of dist/. The first call has the files that were there at the start.

        Args:
            events: Files that have become stable or were removed.
            unsettled: Files that are still being written.
        """
        self._unsettled_at_start = unsettled if self._unsettled_at_start is None else self._unsettled_at_start & unsettled
        for event in events:
            self._claims.forget_copy(event.name)
            match event:
                case FileStable(name):
                    self._admission.admit_file(name)
                case FileRemoved(name):
                    log.info("%s: no longer in dist/", name)
                    self._claims.release_file(name)
        self.schedule_decision()

    def drain_unrouted_workers(self, has_drained: Callable[[int], bool], has_drained_jobs: Callable[[int], bool]) -> None:
        """Drains the retired workers that no request can reach any more.

        Args:
            has_drained: Returns whether no front door still uses a table before this generation.
            has_drained_jobs: Returns the same about the job runner and its tables.
        """
        for managed in self.releases:
            for workers, is_unrouted in ((managed.workers, has_drained), (managed.job_workers, has_drained_jobs)):
                for worker in workers.processes:
                    if is_unrouted(worker.retired_generation):
                        worker.on_unrouted()

    def stop(self) -> None:
        """Stops all preparation and decisions. Workers keep running until `stop_workers`."""
        self._stopping = True
        self._admission.stop()

    def stop_workers(self) -> None:
        """Drains every worker, once neither a front door nor the job runner is left."""
        for managed in self.releases:
            managed.workers.retire_all()
            managed.job_workers.stop()
        self.drain_unrouted_workers(lambda _: True, lambda _: True)

    def serving_release(self, model: str) -> ManagedRelease | None:
        """Returns the release of a model that receives most of its requests; None if no release serves."""
        name = canonicalize_name(model)
        serving = planner.serving_releases(self.releases.releases, self.records.policies)
        return next((self.releases.managed(release) for release in serving if release.name == name), None)

    # ---- decisions

    def schedule_decision(self) -> None:
        """Schedules one decision at the end of this iteration of the event loop, however many events it has."""
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.decide_pending)

    def decide_pending(self) -> None:
        """Decides now if a decision is scheduled."""
        if self._scheduled:
            self._scheduled = False
            self._decide()

    def _decide(self) -> None:
        if not self._stopping:
            self.shifter.roll_back_failed()
            for managed in self.releases:
                managed.workers.retire_recycled()
            self._admission.readmit_trusted()
            choose_bases(self.releases)
            self._apply_plans()
        self._job_routing.update(self.table)
        self._on_decided()
        self.records.store.write_changes()

    def _apply_plans(self) -> None:
        claims = self._paths.claims(self._unread_files)
        undescribed = self._paths.undescribed(self._plan_releases().start) | (self._unsettled_at_start or set())
        self._paths_known = self._paths_known or not (undescribed or self._unsettled_at_start is None)
        self._paths.hold_new_paths(claims, undescribed)
        self._refuse_conflicts(claims)
        plans = planner.traffic_plans(self.releases.releases, self.records.policies)
        self.shifter.follow_plans(plans)
        self._start_and_stop()
        self._forget_removed()
        self.states.update(plans)
        reserved = self._paths.reserved_paths(plans, claims, self.states.current)
        self._routing.update(plans, reserved, paths_known=self._paths_known, startup_complete=self._paths_known and not self._is_starting)
        if self._paths_known and self._paths.remember(plans):
            self.schedule_decision()  # a path that a model has given up is free for a release that was refused because of it

    def _refuse_conflicts(self, claims: Claims) -> None:
        releases = self.releases.releases
        facts = [
            (each, each.state, each.spec, each.awaits, each.contended, each.keeps_failing, each.file, each.in_place) for each in releases
        ]
        if (claims, facts) == self._compared:  # comparing the paths takes about 10 µs for each
            return
        while found := conflicts.find_conflicts(releases, claims):
            for release, reason in found:
                self.releases.managed(release).leave(ReleaseEvent.REFUSED, reason)
                release.contended = True
        for release in conflicts.resolved_conflicts(releases, claims):
            release.contended = False
            self.releases.managed(release).step(ReleaseEvent.RETRIED)
        self._compared = claims, facts

    def _start_and_stop(self) -> None:
        plan = self._plan_releases()
        for release in plan.stop:
            log.info("%s: no longer needed", release.title)
            self.releases.managed(release).step(ReleaseEvent.DEMOTED)
        for release in plan.start:
            managed = self.releases.managed(release)
            managed.step(ReleaseEvent.PROMOTED)
            self._admission.unpack(managed)

    def _plan_releases(self) -> planner.ReleasePlan:
        starting = self._is_starting and not self.table.startup_complete
        return planner.plan_releases(self.releases.releases, self.records.policies, starting=starting)

    def _forget_removed(self) -> None:
        """Forgets releases whose file was removed and that are no longer needed."""
        bases_in_use = [managed.files.base for managed in self.releases if managed.release.is_model]
        for managed in self.releases:
            managed.workers.drop_stopped()
            managed.job_workers.drop_stopped()
            if not managed.release.in_place and not managed.has_workers:
                unused_base = managed.files.is_base and (managed.files.base is None or managed.files.base not in bases_in_use)
                if unused_base or (managed.release.state in _IDLE and not self._may_roll_back_to(managed.release)):
                    managed.leave(ReleaseEvent.STOPPED, "")
        self.releases.drop_stopped()

    def _may_roll_back_to(self, release: Release) -> bool:
        return release.state is ReleaseState.STANDBY and self.shifter.may_roll_back_to(release)

    @property
    def _is_starting(self) -> bool:
        """Returns whether a file that was in dist/ at the start is neither ready nor refused yet."""
        if self._unsettled_at_start is None or self._unsettled_at_start:
            return True
        return any(managed.initial and managed.may_become_ready for managed in self.releases)

    @property
    def _unread_files(self) -> set[str]:
        """Returns the files that were in dist/ at the start, and of which it is not known yet what they contain."""
        unread = {each.release.file for each in self.releases if each.initial and each.release.state is ReleaseState.VERIFYING}
        return unread | (self._unsettled_at_start or set())

    def _new_release(self, release: Release) -> ManagedRelease:
        return ManagedRelease(
            release,
            self._context,
            self.schedule_decision,
            lambda: self._routing.generation_without(release),
            self._job_routing.next_generation,
            initial=not self.table.startup_complete,
        )
