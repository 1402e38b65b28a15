"""The reports of models in the state file: the releases that receive their requests, and the orders that are in effect."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.rollout.model_status import ModelStateAndReason
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_plan import TrafficPlan, desired_shares, mirror_release, plan_traffic, unmet_orders
from runtime.supervisor.status.state import ModelReport, ProbationReport, RolledBackRelease, TrafficShare, WarmStandby
from runtime.supervisor.traffic.model_states import ModelStateTracker
from runtime.supervisor.traffic.records import TrafficRecords


def report_models(records: TrafficRecords, states: ModelStateTracker) -> list[ModelReport]:
    """Returns the report of each model, sorted by name."""
    return [_report_model(name, records, found) for name, found in states.current.items()]


def _report_model(name: str, records: TrafficRecords, state: ModelStateAndReason) -> ModelReport:
    record, releases = records.record(name), records.releases.verified_of_model(name)
    policy, plan = record.traffic, plan_traffic(releases, record.traffic)
    managed = records.releases.of_model(name)
    mirror = mirror_release(releases, policy)
    versions = {each.release.sha256: each.release.version for each in managed}
    remarks = [each.remark for each in managed if each.remark]
    given_up = [each.release.version for each in managed if each.release.keeps_failing and each.release.spec is None and not record.paths]
    remarks += [f"{version} has failed so often that other models no longer wait for its paths" for version in given_up]
    return ModelReport(
        name=name,
        state=state.state,
        reason=": ".join(part for part in (state.reason, state.detail) if part),
        serving=_as_percentages(plan.shares),
        desired=_as_percentages(desired_shares(releases, policy)),
        pin=policy.pin,
        split=policy.split.weights if policy.split else {},
        by=policy.split.by if policy.split else "",
        labels=policy.labels,
        shadow=policy.shadow.to if policy.shadow else "",
        shadow_percent=policy.shadow.percent if policy.shadow else 0.0,
        shadow_sha256=mirror.sha256 if mirror else "",
        shadow_in_force=mirror is not None and plan.mirror is mirror,
        mirror=records.progress(name).mirror if policy.shadow else None,
        warm_standby=_warm_standby(managed),
        probation=[
            ProbationReport.of(each.release.version, each.timers.probation)
            for each in managed
            if each.timers.probation and any(release is each.release for release, _ in plan.shares)
        ],
        rolled_back=[RolledBackRelease(versions[sha256], sha256, why) for sha256, why in policy.rolled_back.items() if sha256 in versions],
        remarks=unmet_orders(releases, policy) + remarks + _fallback_remarks(plan, managed),
        history=record.history,
    )


def _as_percentages(weights: Sequence[tuple[Release, int]]) -> list[TrafficShare]:
    total = sum(weight for _, weight in weights)
    return [TrafficShare(release.version, release.sha256, 100 * weight / total) for release, weight in weights]


def _warm_standby(managed: Sequence[ManagedRelease]) -> WarmStandby | None:
    standbys = (
        WarmStandby(each.release.version, each.release.sha256, each.timers.standby_until) for each in managed if each.release.warm_standby
    )
    return next(standbys, None)


def _fallback_remarks(plan: TrafficPlan, managed: Sequence[ManagedRelease]) -> list[str]:
    fallback = plan.fallback(each.release for each in managed)
    if fallback is None or any(each.is_up for each in managed if each.release is plan.shares[0][0]):
        return []
    return [f"{fallback.version} answers while {plan.shares[0][0].version} has no worker"]
