"""Handles traffic shifts, in which the requests of a model move to other releases, and releases that fail their probation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from msgspec.structs import replace

from base.errors import Conflict
from base.ipc.front_door_control import MirrorReport, OutcomeReport
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.rollout.policy_changes import record_served, roll_back_to_previous
from runtime.supervisor.rollout.policy_record import PolicyRecord, TrafficShift
from runtime.supervisor.rollout.probation import Probation, ProbationRules
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan, plan_traffic
from runtime.supervisor.rollout.traffic_policy import with_rolled_back
from runtime.supervisor.status.state import MirrorStatus, timestamp
from runtime.supervisor.traffic.records import TrafficRecords

log = logging.getLogger(__name__)

_SERVABLE_WITHOUT_FILE = 2
"""Number of latest releases, including the serving one, to which a rollback is possible after their file was removed or replaced."""


class TrafficShifter:
    """Follows the traffic plans of all models.

    A release that receives requests goes on probation; the release that lost them stays up as a warm standby for a while.

    Args:
        records: The policies of all models.
        rules: Rules of probation.
        rollback_window_s: Time for which the previous release stays up, in seconds.
        on_changed: Called after every report of a front door.
    """

    def __init__(self, records: TrafficRecords, rules: ProbationRules, rollback_window_s: float, on_changed: Callable[[], None]) -> None:
        self._records = records
        self.rules = rules
        self.rollback_window_s = rollback_window_s
        self._on_changed = on_changed

    def roll_back_failed(self) -> None:
        """Rolls back every release that failed its probation."""
        failed = [
            (managed, verdict)
            for managed in self._records.releases
            if managed.timers.probation is not None and (verdict := managed.timers.probation.verdict)
        ]
        for managed, verdict in failed:
            self._roll_back(managed, verdict)

    def follow_plans(self, plans: Mapping[str, TrafficPlan]) -> None:
        """Shifts the traffic of every model whose plan names other releases or weights than before."""
        for name, plan in plans.items():
            shares = {release.sha256: weight for release, weight in plan.shares}
            if shares and shares != self._records.progress(name).shares:
                self._shift(name, plan, shares)

    def may_roll_back_to(self, release: Release) -> bool:
        """Returns whether a rollback to a release whose file was removed is still possible."""
        return release.is_model and release.sha256 in self._records.record(release.name).traffic.served[-_SERVABLE_WITHOUT_FILE:]

    def on_front_door_report(self, report: OutcomeReport | MirrorReport) -> None:
        """Adds the counts of a front door to those of the release."""
        managed = self._records.releases.by_digest(report.release_id)
        if managed is None:
            return  # the release was removed meanwhile
        if isinstance(report, MirrorReport):
            progress = self._records.progress(managed.release.name)
            progress.mirror = MirrorStatus.from_report(managed.release.version, report).combined_with(progress.mirror)
        elif managed.timers.probation is not None:
            managed.timers.probation.record_requests(report)
        self._on_changed()

    def _roll_back(self, managed: ManagedRelease, reason: str) -> None:
        name = managed.release.name
        record, releases = self._records.record(name), self._records.releases.verified_of_model(name)
        serving = [release for release, _ in plan_traffic(releases, record.traffic).shares]
        managed.timers.stop_probation()
        try:
            if len(serving) > 1:
                after = with_rolled_back(record.traffic, managed.release.sha256, reason)
            else:
                after = roll_back_to_previous(record.traffic, releases, [managed.release], reason)
        except Conflict:
            managed.remark = f"{reason}; it keeps serving, since no release served before it"
            log.error("%s: %s", managed.release.title, managed.remark)  # noqa: TRY400 - an expected case
            return
        log.error("%s: rolled back: %s", managed.release.title, reason)
        self._records.progress(name).why = f"{managed.release.version} was rolled back: {reason}"
        self._records.store.set_records({name: replace(record, traffic=after)})

    def _shift(self, name: str, plan: TrafficPlan, shares: dict[str, int]) -> None:
        progress, record = self._records.progress(name), self._records.record(name)
        before, progress.shares = progress.shares, shares
        what, why = _describe_shares(plan), progress.why or _default_reason(plan, before, record)
        progress.why = ""
        if len(before) == 1 and not before.keys() & record.traffic.rolled_back.keys():
            (sole,) = before
            record = replace(record, traffic=record_served(record.traffic, sole))
        if before or not record.history or record.history[-1].what != what:
            record = record.with_shift(TrafficShift(timestamp(), what, why))
            log.info("%s: requests go to %s: %s", name, what, why)
        self._start_standby(name, before, shares)
        for managed in self._records.releases:
            if managed.release.sha256 in shares.keys() - before.keys():
                managed.timers.stop_standby()
                if record.traffic.served or len(shares) > 1:
                    self._start_probation(managed, proven=managed.release.sha256 in record.traffic.served)
        self._records.store.set_records({name: record})
        self._record_sole_server(name)

    def _start_standby(self, name: str, before: dict[str, int], shares: dict[str, int]) -> None:
        """Keeps only the release up that received the most requests before."""
        rolled_back = self._records.record(name).traffic.rolled_back
        left = [sha256 for sha256 in sorted(before, key=lambda each: -before[each]) if sha256 not in shares and sha256 not in rolled_back]
        if not left:
            return
        time_s = max(self.rollback_window_s, self.rules.time_s)
        for managed in self._records.releases:
            if managed.release.sha256 == left[0] and managed.release.state is ReleaseState.RUNNING and time_s:
                managed.timers.start_standby(time_s, timestamp(time_s))
            elif managed.release.name == name:
                managed.timers.stop_standby()

    def _start_probation(self, managed: ManagedRelease, *, proven: bool) -> None:
        time_s = self.rules.time_s
        if time_s and not (proven or managed.timers.passed_probation):
            probation = Probation(self.rules, timestamp(time_s))
            managed.timers.start_probation(probation, time_s, lambda: self._record_sole_server(managed.release.name))

    def _record_sole_server(self, name: str) -> None:
        """Records a release that serves alone and is not on probation as one that served."""
        shares, record = self._records.progress(name).shares, self._records.record(name)
        for managed in self._records.releases:
            sha256 = managed.release.sha256
            if list(shares) == [sha256] and managed.timers.probation is None and record.traffic.served[-1:] != [sha256]:
                self._records.store.set_records({name: replace(record, traffic=record_served(record.traffic, sha256))})


def _describe_shares(plan: TrafficPlan) -> str:
    """Returns `0.2.0 (digest)`, or `0.1.0 90 %, 0.2.0 10 %`."""
    total = sum(weight for _, weight in plan.shares)
    if len(plan.shares) == 1:
        release = plan.shares[0][0]
        return f"{release.version} ({release.sha256[:12]})"
    return ", ".join(f"{release.version} {100 * weight / total:g} %" for release, weight in plan.shares)


def _default_reason(plan: TrafficPlan, before: Mapping[str, int], record: PolicyRecord) -> str:
    """Returns the reason of a shift that nobody ordered."""
    if not before:
        return "Pexdock started" if record.history else "it is the first release"
    if len(plan.shares) > 1 or len(before) > 1:
        return "a release of the split appeared or disappeared"
    return "it is the newest release that is ready"
