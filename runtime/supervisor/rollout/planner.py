"""Decides which releases of all models should run and which receive requests. Pure: it decides and has no effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import VERIFIED, ReleaseState
from runtime.supervisor.rollout.traffic_plan import (
    TrafficPlan,
    find_release,
    is_rolled_back,
    named_releases,
    plan_traffic,
    ranked_candidates,
    side_releases,
)
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

Policies = Mapping[str, TrafficPolicy]
"""Model → its traffic policy. A model without orders has none."""

NO_POLICIES: Policies = MappingProxyType({})
_DEFAULT = TrafficPolicy()


class ReleasePlan(NamedTuple):
    """The releases on standby that should start, and the releases that should stop."""

    start: list[Release]
    stop: list[Release]


def plan_releases(releases: Iterable[Release], policies: Policies = NO_POLICIES, *, starting: bool = False) -> ReleasePlan:
    """Decides which releases to start and which to stop.

    The first candidate of each model runs: the release that operators named, or else the newest. The release that serves keeps serving
    until the candidate takes over. If the candidate crashes at each start, the next lower one is started too. When Pexdock starts, the
    release that served last is started in addition to the candidate. Below a release that took over, only warm standbys and releases of a
    mirror or a label run, and those with jobs. A release that was rolled back is never started to serve.

    Args:
        releases: Releases of all models.
        policies: Policies of all models.
        starting: Whether dist/ has files that are not read yet, so that a missing named release may still appear.
    """
    result = ReleasePlan([], [])
    for group in group_by_model(releases):
        _plan_model(group, policies.get(group[0].name, _DEFAULT), result, starting=starting)
    return result


def _plan_model(releases: Sequence[Release], policy: TrafficPolicy, result: ReleasePlan, *, starting: bool) -> None:
    named = [release for release, _ in named_releases(releases, policy)]
    beside = [*side_releases(releases, policy), *(release for release in releases if release.has_jobs)]
    last_served = policy.served[-1:]
    above_failed, above_serves = True, False  # all higher releases have failed; a higher release serves
    for tier in [named, *([release] for release in ranked_candidates(releases, policy) if release not in named)]:
        for release in tier:
            has_chance = above_failed or release.sha256 in last_served
            if release.state is ReleaseState.STANDBY:
                if release in beside or (has_chance and not above_serves and not is_rolled_back(release, policy)):
                    result.start.append(release)
            elif (above_serves or not (release.was_ready or has_chance)) and not (release.warm_standby or release in beside):
                result.stop.append(release)
        above_failed &= all(release.crash_count > 0 for release in tier)
        if tier is named:
            above_failed &= not (starting and _is_named_release_missing(releases, policy))
        above_serves |= any(release.can_take_over for release in tier)


def _is_named_release_missing(releases: Sequence[Release], policy: TrafficPolicy) -> bool:
    names = [*(policy.split.weights if policy.split else []), *([policy.pin] if policy.pin else [])]
    return any(find_release(name, releases, policy) is None for name in names)


def traffic_plans(releases: Iterable[Release], policies: Policies = NO_POLICIES) -> dict[str, TrafficPlan]:
    """Returns model → its present traffic plan."""
    return {group[0].name: plan_traffic(group, policies.get(group[0].name, _DEFAULT)) for group in group_by_model(releases)}


def serving_releases(releases: Iterable[Release], policies: Policies = NO_POLICIES) -> list[Release]:
    """Returns, for each model that serves, the release with the most requests."""
    return [plan.shares[0][0] for plan in traffic_plans(releases, policies).values() if plan.shares]


def group_by_model(releases: Iterable[Release]) -> list[list[Release]]:
    """Returns the verified releases of each model, with the highest rank first."""
    verified = sorted((release for release in releases if release.is_model and release.state in VERIFIED), key=lambda each: each.name)
    groups = groupby(verified, key=lambda release: release.name)
    return [sorted(group, key=lambda release: release.rank, reverse=True) for _, group in groups]
