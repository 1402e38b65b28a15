"""Which releases of one model get its requests, given what operators said. Pure: decides, and does nothing.

A family is the live releases of one model, highest rank first.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.version import InvalidVersion, Version

from base.ipc.control import MirrorSpec, SplitSpec
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_policy import STABLE, TrafficPolicy


class TrafficPlan(NamedTuple):
    """Where the requests of one model go.

    Attributes:
        shares: the releases that serve, with their weights, the heaviest first; one, unless they share the requests.
        copies: gets copies, and is none of those.
        labels: label → release, for requests that ask for one.
    """

    shares: list[tuple[Release, int]]
    copies: Release | None
    labels: dict[str, Release]

    @property
    def routed(self) -> list[Release]:
        """All that stand in the routing table, the one that serves most first."""
        others = ([self.copies] if self.copies else []) + list(self.labels.values())
        return list(dict.fromkeys([release for release, _ in self.shares] + others))

    def stand_in(self, releases: Iterable[Release]) -> Release | None:
        """The release that answers while the one that serves has no worker: the one before it, as long as that one is on probation."""
        if len(self.shares) != 1 or not self.shares[0][0].on_probation:
            return None
        name = self.shares[0][0].name
        return next(
            (each for each in releases if each.warm_standby and each.serves and each.name == name and each is not self.copies), None
        )

    def sharing(self, traffic: TrafficPolicy, stand_in: Release | None = None) -> SplitSpec | None:
        """The same in the words of the table; None where there is nothing to choose."""
        if not self.shares or (len(self.routed) == 1 and not self.labels and stand_in is None):
            return None
        labels = {STABLE: self.shares[0][0]} | self.labels
        return SplitSpec(
            {release.sha256: weight for release, weight in self.shares},
            traffic.split.by if traffic.split and len(self.shares) > 1 else "",
            MirrorSpec(self.copies.sha256, traffic.shadow.percent) if self.copies and traffic.shadow else None,
            {label: release.sha256 for label, release in labels.items()},
            stand_in.sha256 if stand_in else "",
        )


def course(family: Sequence[Release], traffic: TrafficPolicy) -> TrafficPlan:
    """Where requests go now. What was said and cannot be done yet leaves those serving that do."""
    order = candidates(family, traffic)
    shares = [(release, weight) for release, weight in members(family, traffic) if release.can_take_over]
    if not shares:
        alone = next((release for release in order if release.can_take_over), None) or next((each for each in order if each.serves), None)
        shares = [(alone, 1)] if alone else []
    serving = [release for release, _ in shares]
    copies = shadow_of(family, traffic)
    labels = {label: release for label, release in labelled(family, traffic).items() if release.serves} if serving else {}
    return TrafficPlan(shares, copies if copies and serving and copies.serves and copies not in serving else None, labels)


def goal(family: Sequence[Release], traffic: TrafficPolicy) -> list[tuple[Release, int]]:
    """The releases that should serve, with their weights: those that do once all of them can."""
    return members(family, traffic) or [(release, 1) for release in candidates(family, traffic)[:1]]


def candidates(family: Sequence[Release], traffic: TrafficPolicy) -> list[Release]:
    """All, in the order in which they should serve: those that were named, the newest of the others, and what was taken back."""
    named = [release for release, _ in members(family, traffic)]
    rest = [release for release in family if release not in named]
    return named + sorted(rest, key=lambda release: is_taken_back(release, traffic))


def members(family: Sequence[Release], traffic: TrafficPolicy) -> list[tuple[Release, int]]:
    """The releases that an operator wants to serve, as far as they are there, with their weights, the heaviest first."""
    said = traffic.split.weights if traffic.split else {traffic.pin: 1} if traffic.pin else {}
    found: dict[Release, int] = {}
    for name, weight in sorted(said.items(), key=lambda item: -item[1]):
        release = find(name, family, traffic)
        if release is not None and not is_taken_back(release, traffic):
            found.setdefault(release, weight)
    return list(found.items())


def extras(family: Sequence[Release], traffic: TrafficPolicy) -> list[Release]:
    """The releases that should run beside those that serve."""
    copies = shadow_of(family, traffic)
    return ([copies] if copies else []) + list(labelled(family, traffic).values())


def shadow_of(family: Sequence[Release], traffic: TrafficPolicy) -> Release | None:
    """The release that should get copies."""
    return find(traffic.shadow.to, family, traffic) if traffic.shadow else None


def labelled(family: Sequence[Release], traffic: TrafficPolicy) -> dict[str, Release]:
    """Label → release, but for what is not there or was taken back."""
    found = {label: find(label, family, traffic) for label in traffic.labels}
    return {label: release for label, release in found.items() if release is not None and not is_taken_back(release, traffic)}


def find(name: str, family: Sequence[Release], traffic: TrafficPolicy) -> Release | None:
    """The release of a version or label. Of two contents of one version the one that was not taken back is meant, else the newer."""
    version = as_version(traffic.version(name))
    found = [release for release in family if as_version(release.version) == version] if version else []
    return min(found, key=lambda release: is_taken_back(release, traffic), default=None)


def is_taken_back(release: Release, traffic: TrafficPolicy) -> bool:
    """Whether it must not serve until it is promoted."""
    return release.sha256 in traffic.taken_back


def unmet(family: Sequence[Release], traffic: TrafficPolicy) -> list[str]:
    """What was said and is not done now, in words for people."""
    serving = [release for release, _ in course(family, traffic).shares]
    wants = [(f"{name} should have a share of the requests", name) for name in (traffic.split.weights if traffic.split else [])]
    wants += [("it is pinned", traffic.pin)] if traffic.pin else []
    found = []
    for what, name in wants:
        release = find(name, family, traffic)
        if release not in serving:
            found.append(f"{what}, but {_absence(name, release, traffic)}")
    copies = shadow_of(family, traffic)
    if traffic.shadow and (copies is None or not copies.serves):
        found.append(f"copies should go to {traffic.shadow.to}, but {_absence(traffic.shadow.to, copies, traffic)}")
    return found


def as_version(text: str) -> Version | None:
    """None for what is no version."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def _absence(name: str, release: Release | None, traffic: TrafficPolicy) -> str:
    version = traffic.version(name)
    if release is None:
        return f"no release {version} is there that could serve"
    if is_taken_back(release, traffic):
        return f"{version} was taken back"
    return f"{version} is not ready: it is {'being started' if release.state is ReleaseState.RUNNING else release.state}"
