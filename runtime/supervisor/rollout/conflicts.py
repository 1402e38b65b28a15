"""Finds releases that conflict: two contents of one version, or two models on one path. Pure: it decides and has no effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from packaging.version import Version

from base.endpoint.path import path_shape
from runtime.supervisor.rollout.planner import NO_POLICIES, Policies, routed_releases
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import VERIFIED, ReleaseState

_PAST_CHECKS = {ReleaseState.WAITING, *VERIFIED}


class Refusal(NamedTuple):
    """A release that must not serve, and the reason."""

    release: Release
    reason: str


def find_conflicts(releases: Sequence[Release], policies: Policies = NO_POLICIES) -> list[Refusal]:
    """Returns the releases to refuse, which have the name and version of another file, or a path of another model.

    The release that was dropped first wins, so that the decision is the same after a restart.
    """
    return _version_conflicts(releases) or _path_conflicts(releases, policies)


def resolved_conflicts(releases: Sequence[Release], policies: Policies = NO_POLICIES) -> list[Release]:
    """Returns the releases that were refused for a conflict that no longer exists."""
    reached = routed_releases(releases, policies)
    return [
        release for release in releases if release.contended and not (_version_holder(release, releases) or _path_holders(release, reached))
    ]


def _paths_by_shape(release: Release) -> dict[str, str]:
    """Returns shape → path of each endpoint that the release is known to have."""
    return {path_shape(endpoint.path): endpoint.path for endpoint in release.spec.endpoints} if release.spec else {}


def _version_holder(release: Release, releases: Iterable[Release]) -> Release | None:
    """Returns the release that has the name and version of `release`, comes from another file and wins."""
    for other in sorted(releases, key=lambda other: other.order):
        same = other.identity and release.identity and _is_same_version(other.identity, release.identity)
        if same and other.file != release.file and other.in_place and other.state in _PAST_CHECKS:
            return other if other.order < release.order or release.contended else None
    return None


def _is_same_version(one: Identity, other: Identity) -> bool:
    return (one.kind, one.name, Version(one.version)) == (other.kind, other.name, Version(other.version)) and one.sha256 != other.sha256


def _version_conflicts(releases: Sequence[Release]) -> list[Refusal]:
    found = []
    for release in releases:
        if release.is_model and release.in_place and release.state in _PAST_CHECKS:
            holder = _version_holder(release, releases)
            if holder is not None:
                reason = f"{holder.title} is served from {holder.file}, which has different content: give this release another version"
                found.append(Refusal(release, reason))
    return found


def _path_conflicts(releases: Sequence[Release], policies: Policies) -> list[Refusal]:
    """Returns path conflicts. A newer release inherits the paths of older releases of its model, and their claims to these paths."""
    held: dict[str, Release] = {}
    found = []
    for release in sorted(routed_releases(releases, policies), key=lambda release: max(_claims(release, releases), default=0)):
        paths = _paths_by_shape(release)
        taken = next((shape for shape in paths if shape in held and held[shape].name != release.name), None)
        if taken is not None:
            found.append(Refusal(release, _path_reason(paths[taken], _paths_by_shape(held[taken])[taken], held[taken])))
        else:
            held |= dict.fromkeys(paths, release)
    return found


def _claims(release: Release, releases: Iterable[Release]) -> list[int]:
    """Returns, for each path of `release`, the order of the first verified release of its model that had it."""
    siblings = [other for other in releases if other.is_model and other.name == release.name and other.state in VERIFIED]
    return [min(other.order for other in siblings if shape in _paths_by_shape(other)) for shape in _paths_by_shape(release)]


def _path_holders(release: Release, reached: Iterable[Release]) -> list[Release]:
    """Returns the releases of other models that have a path of `release`."""
    paths = _paths_by_shape(release).keys()
    return [other for other in reached if other.name != release.name and _paths_by_shape(other).keys() & paths]


def _path_reason(path: str, other_path: str, holder: Release) -> str:
    same = "" if path == other_path else f" as {other_path}"
    return f"path {path} is served by {holder.title}{same}, from {holder.file}: use another path"
