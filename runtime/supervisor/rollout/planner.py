"""Which releases should run, which serve, and which are in each other's way. Pure: decides, and does nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from types import MappingProxyType
from typing import NamedTuple

from packaging.version import Version

from base.endpoint.path import path_shape
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import VERIFIED, ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan, candidates, course, extras, find, is_taken_back, members
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy

Traffics = Mapping[str, TrafficPolicy]
"""Model → what operators said of it; a model that is not in it was never spoken of."""

SILENCE: Traffics = MappingProxyType({})
_NOTHING = TrafficPolicy()


class Plan(NamedTuple):
    """What should become of the releases of one model: one that stands by is to be unpacked, others are no longer needed."""

    promote: list[Release]
    demote: list[Release]


class Refusal(NamedTuple):
    """A release that must not serve, and why."""

    release: Release
    reason: str


def plan(releases: Iterable[Release], traffics: Traffics = SILENCE, *, starting: bool = False) -> Plan:
    """Which releases to start and which to end.

    Of each model the first candidate runs: what operators named, else the newest. Until it takes over, what serves now goes on serving;
    while it dies at each start the next one below it is started as well, and after a start of Pexdock the one that served last is started
    beside it. Nothing below one that took over runs, but for what gets copies, has a label, or is kept. What was taken back is never
    started to serve.

    Args:
        releases: of all models.
        traffics: what operators said.
        starting: not all that lies in dist/ is known yet, so a release that was named and is missing may still come.
    """
    result = Plan([], [])
    for family in by_model(releases):
        _plan(family, traffics.get(_name(family[0]), _NOTHING), result, starting=starting)
    return result


def _plan(family: Sequence[Release], traffic: TrafficPolicy, result: Plan, *, starting: bool) -> None:
    named = [release for release, _ in members(family, traffic)]
    beside = extras(family, traffic)
    last = traffic.served[-1:]
    above_failed, above_serves = True, False  # everything above has had its chance; something above serves
    for group in [named, *([release] for release in candidates(family, traffic) if release not in named)]:
        for release in group:
            if release.state is ReleaseState.STANDBY:
                wanted = (above_failed or release.sha256 in last) and not above_serves and not is_taken_back(release, traffic)
                if release in beside or wanted:
                    result.promote.append(release)
            elif (above_serves or not (release.was_ready or above_failed or release.sha256 in last)) and not (
                release.warm_standby or release in beside
            ):
                result.demote.append(release)
        above_failed &= all(release.crash_count > 0 for release in group)
        if group is named:
            above_failed &= not (starting and _is_missing(family, traffic))
        above_serves |= any(release.can_take_over for release in group)


def _is_missing(family: Sequence[Release], traffic: TrafficPolicy) -> bool:
    """Whether something that should serve is not there."""
    names = [*(traffic.split.weights if traffic.split else []), *([traffic.pin] if traffic.pin else [])]
    return any(find(name, family, traffic) is None for name in names)


def courses(releases: Iterable[Release], traffics: Traffics = SILENCE) -> dict[str, TrafficPlan]:
    """Model → where its requests go now."""
    return {_name(family[0]): course(family, traffics.get(_name(family[0]), _NOTHING)) for family in by_model(releases)}


def serving(releases: Iterable[Release], traffics: Traffics = SILENCE) -> list[Release]:
    """The release that serves most, for each model that has one."""
    return [each.shares[0][0] for each in courses(releases, traffics).values() if each.shares]


def routed(releases: Iterable[Release], traffics: Traffics = SILENCE) -> list[Release]:
    """All releases that requests can reach."""
    return [release for each in courses(releases, traffics).values() for release in each.routed]


def refusals(releases: Sequence[Release], traffics: Traffics = SILENCE) -> list[Refusal]:
    """Releases that want what another one has: the same name and version from another file, or a path of another model.

    Whoever was dropped first keeps it, so that a restart decides alike.
    """
    return _doubles(releases) or _conflicts(releases, traffics)


def freed(releases: Sequence[Release], traffics: Traffics = SILENCE) -> list[Release]:
    """Releases that were refused for what another one had, and which nobody has any more."""
    reached = routed(releases, traffics)
    return [release for release in releases if release.contended and not (_double_of(release, releases) or _holders(release, reached))]


def by_model(releases: Iterable[Release]) -> list[list[Release]]:
    """The live releases of each model, highest rank first."""
    alive = sorted((release for release in releases if release.is_model and release.state in VERIFIED), key=_name)
    return [sorted(group, key=lambda release: release.rank, reverse=True) for _, group in groupby(alive, key=_name)]


def _name(release: Release) -> str:
    assert release.identity is not None
    return release.identity.name


def _shapes(release: Release) -> dict[str, str]:
    """Shape → path, of each endpoint that it is known to have."""
    return {path_shape(endpoint.path): endpoint.path for endpoint in release.spec.endpoints} if release.spec else {}


def _double_of(release: Release, releases: Iterable[Release]) -> Release | None:
    """The release that has the name and version of `release`, from another file, and comes first."""
    for other in sorted(releases, key=lambda other: other.order):
        same = other.identity and release.identity and _same_version(other.identity, release.identity)
        if same and other.file != release.file and other.in_place and other.state in {ReleaseState.WAITING, *VERIFIED}:
            return other if other.order < release.order or release.contended else None
    return None


def _same_version(one: Identity, other: Identity) -> bool:
    return (one.kind, one.name, Version(one.version)) == (other.kind, other.name, Version(other.version)) and one.sha256 != other.sha256


def _doubles(releases: Sequence[Release]) -> list[Refusal]:
    found = []
    for release in releases:
        if release.is_model and release.in_place and release.state in {ReleaseState.WAITING, *VERIFIED}:
            holder = _double_of(release, releases)
            if holder is not None:
                reason = f"{holder.title} is served from {holder.file}, which has other content: give this one another version"
                found.append(Refusal(release, reason))
    return found


def _conflicts(releases: Sequence[Release], traffics: Traffics) -> list[Refusal]:
    """A newer release of a model inherits the claims of the older ones to the paths that they had, and no other claim."""
    held: dict[str, Release] = {}
    found = []
    for release in sorted(routed(releases, traffics), key=lambda release: max(_claims(release, releases), default=0)):
        taken = next((shape for shape in _shapes(release) if shape in held and _name(held[shape]) != _name(release)), None)
        if taken is not None:
            found.append(Refusal(release, _conflict(_shapes(release)[taken], _shapes(held[taken])[taken], held[taken])))
        else:
            held |= dict.fromkeys(_shapes(release), release)
    return found


def _claims(release: Release, releases: Iterable[Release]) -> list[int]:
    """For each path of `release` the order of the first live release of its model that had it."""
    family = [other for other in releases if other.is_model and _name(other) == _name(release) and other.state in VERIFIED]
    return [min(other.order for other in family if shape in _shapes(other)) for shape in _shapes(release)]


def _holders(release: Release, reached: Iterable[Release]) -> list[Release]:
    """Those of other models that have a path of `release`."""
    return [other for other in reached if _name(other) != _name(release) and _shapes(other).keys() & _shapes(release).keys()]


def _conflict(path: str, other_path: str, holder: Release) -> str:
    same = "" if path == other_path else f" as {other_path}"
    return f"its path {path} is served by {holder.title}{same}, from {holder.file}: give it another path"
