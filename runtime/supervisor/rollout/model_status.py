"""Derives the state of a model from its releases and their workers. Pure: it decides and has no effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from packaging.utils import canonicalize_name

from runtime.model_state import ModelState
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan


@dataclass(frozen=True)
class ReleaseStatus:
    """A release and the processes of it on which the state of its model depends.

    Attributes:
        release: The release.
        model: Normalized name of its model, which may be known only from the name of its file.
        ready_workers: Number of workers that are ready.
        missing_workers: Number of workers that should be ready but are not.
        has_process: Whether a process of it runs.
        rolled_back: Whether it must not serve until it is promoted.
        may_start: Whether it may still start without a change in dist/, although it waits for a base or failed for lack of resources.
    """

    release: Release
    model: str
    ready_workers: int = 0
    missing_workers: int = 0
    has_process: bool = False
    rolled_back: bool = False
    may_start: bool = False


class ModelStateAndReason(NamedTuple):
    """The state of a model, with its reason for clients and the whole reason for operators, which may quote the model's own errors.

    `version` is that of the release that determines the state; empty if it is not known.
    """

    state: ModelState
    reason: str = ""
    detail: str = ""
    version: str = ""


def model_of_file(name: str) -> str:
    """Returns the normalized name of the model that a file name promises: `iris` for `iris-0.1.0.pex`; empty for a base."""
    stem = name.removesuffix(".pex")
    head, _, tail = stem.rpartition("-")
    model = canonicalize_name(head if head and tail[:1].isdigit() else stem)
    return "" if model == "base" else model


def model_state(releases: Sequence[ReleaseStatus], plan: TrafficPlan | None) -> ModelStateAndReason:
    """Returns the state of a model, except during shutdown.

    Args:
        releases: All of its releases, whatever their states.
        plan: Its traffic plan; None if no release is verified.
    """
    if not releases:
        return ModelStateAndReason(ModelState.UNKNOWN, "no file of it is in dist/")
    if plan is not None and plan.shares:
        return _serving_state(releases, plan)
    return _waiting_state(releases)


def _serving_state(releases: Sequence[ReleaseStatus], plan: TrafficPlan) -> ModelStateAndReason:
    serving = [each for each in releases if each.release in [release for release, _ in plan.shares]]
    fallback = plan.fallback(each.release for each in releases)
    down = [each for each in serving if not each.ready_workers]
    if len(down) < len(serving):
        incomplete = down or [each for each in serving if each.missing_workers]
        if not incomplete:
            return ModelStateAndReason(ModelState.READY, version=plan.shares[0][0].version)
        return _described(ModelState.DEGRADED, incomplete[0], f"workers that are down: {incomplete[0].missing_workers}")
    if fallback is not None and any(each.ready_workers for each in releases if each.release is fallback):
        return _described(ModelState.DEGRADED, down[0], f"it has no worker, and {fallback.version} answers in its place")
    return _described(ModelState.RESTARTING, down[0], "its worker exited and starts again")


def _waiting_state(releases: Sequence[ReleaseStatus]) -> ModelStateAndReason:
    """Returns the state of a model without a release that serves: that of the release that is nearest to serving."""
    for each in releases:
        if each.ready_workers and each.release.awaits:
            return _described(ModelState.STARTING, each, waiting_reason(each.release))
    coming = [each for each in releases if each.release.is_starting or _is_about_to_start(each)]
    warming = [each for each in coming if each.release.state is ReleaseState.RUNNING and each.has_process]
    if warming:
        return _described(ModelState.WARMING, warming[0], "its first worker is not ready yet")
    if coming:
        return _described(ModelState.STARTING, coming[0], "it is prepared or waits for its turn to start")
    for each in releases:
        if each.release.state is ReleaseState.RUNNING:
            return _described(ModelState.RESTARTING, each, "its worker exited before it was ready, and is started again")
    for each in _newest_first(releases):
        if each.release.state is not ReleaseState.REFUSED or each.may_start:
            return _described(ModelState.FAILED, each, _WHY_FAILED[each.release.state])
    return _described(ModelState.REFUSED, _newest_first(releases)[0], "it was refused")


def waiting_reason(release: Release) -> str:
    """Returns why a release that is ready does not serve."""
    return f"its paths are new, and it waits until those of {release.awaits} are known"


_WHY_FAILED = {
    ReleaseState.STANDBY: "it was rolled back, and no other release is left",
    ReleaseState.FAILED: "it could not be loaded",
    ReleaseState.WAITING: "its base is not in dist/",
    ReleaseState.REFUSED: "the machine lacks resources to prepare it",
}


def _is_about_to_start(status: ReleaseStatus) -> bool:
    match status.release.state:
        case ReleaseState.WAITING:
            return status.may_start
        case ReleaseState.STANDBY:
            return not status.rolled_back
        case _:
            return False


def _newest_first(releases: Iterable[ReleaseStatus]) -> list[ReleaseStatus]:
    return sorted(releases, key=lambda each: each.release.order, reverse=True)


def _described(state: ModelState, status: ReleaseStatus, why: str) -> ModelStateAndReason:
    release = status.release
    return ModelStateAndReason(state, f"{release.version or release.file}: {why}", release.reason, release.version)
