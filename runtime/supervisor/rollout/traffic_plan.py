"""The traffic plan of one model: the releases that receive requests by its policy. Pure: it decides and has no effects.

`releases` are always the verified releases of one model, with the highest rank first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from base.ipc.front_door_control import MirrorSpec, SplitSpec
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_policy import STABLE, TrafficPolicy

Shares = list[tuple[Release, int]]
"""Releases with their weights, with the highest weight first."""


class TrafficPlan(NamedTuple):
    """The releases that receive requests of one model now.

    Attributes:
        shares: The releases that serve; exactly one unless the requests are split.
        mirror: The release that receives mirrored requests and does not serve.
        labels: Label → release, for requests that name a label.
    """

    shares: Shares
    mirror: Release | None
    labels: dict[str, Release]

    @property
    def routed(self) -> list[Release]:
        """Returns all releases of the routing table, with the highest weight first."""
        others = ([self.mirror] if self.mirror else []) + list(self.labels.values())
        return list(dict.fromkeys([release for release, _ in self.shares] + others))

    def fallback(self, releases: Iterable[Release]) -> Release | None:
        """Returns the previous release, which answers while the serving release is on probation and has no worker; None without one."""
        if len(self.shares) != 1 or not self.shares[0][0].on_probation:
            return None
        name = self.shares[0][0].name
        standbys = (release for release in releases if release.warm_standby and release.serves and release.name == name)
        return next((release for release in standbys if release is not self.mirror), None)

    def split_spec(self, policy: TrafficPolicy, fallback: Release | None = None) -> SplitSpec | None:
        """Returns the plan for the routing table; None if front doors have no choice between releases."""
        if not self.shares or (len(self.routed) == 1 and not self.labels and fallback is None):
            return None
        labels = {STABLE: self.shares[0][0]} | self.labels
        return SplitSpec(
            {release.sha256: weight for release, weight in self.shares},
            policy.split.by if policy.split and len(self.shares) > 1 else "",
            MirrorSpec(self.mirror.sha256, policy.shadow.percent) if self.mirror and policy.shadow else None,
            {label: release.sha256 for label, release in labels.items()},
            fallback.sha256 if fallback else "",
        )


def plan_traffic(releases: Sequence[Release], policy: TrafficPolicy) -> TrafficPlan:
    """Returns the present plan. While the desired releases are not ready, the serving ones keep serving."""
    ranked = ranked_candidates(releases, policy)
    shares = [(release, weight) for release, weight in named_releases(releases, policy) if release.can_take_over]
    if not shares:
        ready = [release for release in ranked if release.can_take_over] or [release for release in ranked if release.serves]
        shares = [(release, 1) for release in ready[:1]]
    serving = [release for release, _ in shares]
    mirror = mirror_release(releases, policy)
    labels = {label: release for label, release in labelled_releases(releases, policy).items() if release.serves} if serving else {}
    return TrafficPlan(shares, mirror if mirror and serving and mirror.serves and mirror not in serving else None, labels)


def desired_shares(releases: Sequence[Release], policy: TrafficPolicy) -> Shares:
    """Returns the desired state: the releases that will serve once all of them can."""
    if named := named_releases(releases, policy):
        return named
    ranked = [release for release in ranked_candidates(releases, policy) if release.serves or not is_rolled_back(release, policy)]
    return [(release, 1) for release in ranked[:1]]


def ranked_candidates(releases: Sequence[Release], policy: TrafficPolicy) -> list[Release]:
    """Returns all releases in order of preference: those that operators named, then the others from the newest, then rolled-back ones."""
    named = [release for release, _ in named_releases(releases, policy)]
    rest = [release for release in releases if release not in named]
    return named + sorted(rest, key=lambda release: is_rolled_back(release, policy))


def named_releases(releases: Sequence[Release], policy: TrafficPolicy) -> Shares:
    """Returns the existing releases of the pin or the split, without rolled-back releases."""
    weights = policy.split.weights if policy.split else {policy.pin: 1} if policy.pin else {}
    found: dict[Release, int] = {}
    for name, weight in sorted(weights.items(), key=lambda item: -item[1]):
        release = find_release(name, releases, policy)
        if release is not None and not is_rolled_back(release, policy):
            found.setdefault(release, weight)
    return list(found.items())


def side_releases(releases: Sequence[Release], policy: TrafficPolicy) -> list[Release]:
    """Returns the releases of the mirror and of labels, which should run in addition to the serving ones."""
    mirror = mirror_release(releases, policy)
    return ([mirror] if mirror else []) + list(labelled_releases(releases, policy).values())


def mirror_release(releases: Sequence[Release], policy: TrafficPolicy) -> Release | None:
    """Returns the release that should receive mirrored requests."""
    return find_release(policy.shadow.to, releases, policy) if policy.shadow else None


def labelled_releases(releases: Sequence[Release], policy: TrafficPolicy) -> dict[str, Release]:
    """Returns label → release, for releases that exist and were not rolled back."""
    found = {label: find_release(label, releases, policy) for label in policy.labels}
    return {label: release for label, release in found.items() if release is not None and not is_rolled_back(release, policy)}


def find_release(name: str, releases: Sequence[Release], policy: TrafficPolicy) -> Release | None:
    """Returns the release of a version or label. If several have the version, prefers one that was not rolled back, then the newest."""
    version = parse_version(policy.version_of(name))
    found = [release for release in releases if parse_version(release.version) == version] if version else []
    return min(found, key=lambda release: is_rolled_back(release, policy), default=None)


def is_rolled_back(release: Release, policy: TrafficPolicy) -> bool:
    """Returns whether a release must not serve until it is promoted."""
    return release.sha256 in policy.rolled_back


def unmet_orders(releases: Sequence[Release], policy: TrafficPolicy) -> list[str]:
    """Returns a sentence for people about each order of the policy that is not in effect now."""
    plan = plan_traffic(releases, policy)
    serving = [release for release, _ in plan.shares]
    orders = [(f"{name} should receive part of the requests", name, serving) for name in (policy.split.weights if policy.split else [])]
    if policy.pin:
        orders.append((f"{policy.pin} is pinned", policy.pin, serving))
    if policy.shadow:
        orders.append((f"requests should be mirrored to {policy.shadow.to}", policy.shadow.to, [plan.mirror] if plan.mirror else []))
    for label, version in policy.labels.items():
        orders.append((f"label {label} is on {version}", label, [plan.labels[label]] if label in plan.labels else []))
    found = []
    for what, name, in_effect in orders:
        release = find_release(name, releases, policy)
        if release is None or release not in in_effect:
            found.append(f"{what}, but {_why_not_in_effect(name, release, serving, policy)}")
    return found


def standby_reason(release: Release, releases: Sequence[Release], policy: TrafficPolicy) -> str:
    """Returns why a release that could run does not."""
    if is_rolled_back(release, policy):
        return f"it was rolled back and does not serve until it is promoted: {policy.rolled_back[release.sha256]}"
    if policy.pin and named_releases(releases, policy):
        return f"{policy.pin} is pinned"
    if policy.split and named_releases(releases, policy):
        return f"requests are split between {', '.join(policy.split.weights)}"
    if release in ranked_candidates(releases, policy)[1:]:
        return "a newer release of the model is there"
    return ""


def parse_version(text: str) -> Version | None:
    """Returns the version; None if the text is not a version."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _why_not_in_effect(name: str, release: Release | None, serving: Sequence[Release], policy: TrafficPolicy) -> str:
    version = policy.version_of(name)
    if release is None:
        return f"there is no release {version} that could serve"
    may_run = policy.shadow is not None and name == policy.shadow.to  # a release that was rolled back may get mirrored requests
    if is_rolled_back(release, policy) and not may_run:
        return f"{version} was rolled back"
    if release in serving:
        return f"{version} serves"
    if release.serves:
        return "no release serves" if not serving else f"{version} is not ready: some of its workers are starting"
    return f"{version} is not ready: its state is {_state_text(release)}"


def _state_text(release: Release) -> str:
    if release.state is not ReleaseState.RUNNING:
        return release.state
    return "restarting" if release.crash_count else "starting"
