"""Finds releases that conflict: two contents of one version, or overlapping paths of two models. Pure: it decides and has no effects."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import starmap
from typing import NamedTuple

from packaging.version import Version

from runtime.supervisor.rollout.path_claims import (
    NO_CLAIMS,
    Claims,
    OwnedPaths,
    PathOwner,
    by_precedence,
    claimed_paths,
    owned_paths,
    release_paths,
    settled_releases,
)
from runtime.supervisor.rollout.release import Identity, Release
from runtime.supervisor.rollout.release_state import VERIFIED, ReleaseState

_PAST_CHECKS = {ReleaseState.WAITING, *VERIFIED}

_NamedVersion = tuple[str, str, Version]
"""The kind, name and version of a release."""


class Refusal(NamedTuple):
    """A release that must not serve, and the reason."""

    release: Release
    reason: str


def find_conflicts(releases: Sequence[Release], claims: Claims = NO_CLAIMS) -> list[Refusal]:
    """Returns releases to refuse, which have the name and version of another file, or a path that overlaps one of another model.

    Without them, other conflicts of versions or paths may appear. Of two files with one version, the one that was dropped first wins; see
    `by_precedence` for paths.

    Args:
        releases: All releases.
        claims: Paths with which the models that are present have served before.
    """
    return _version_conflicts(releases) or _path_conflicts(releases, claims)


def resolved_conflicts(releases: Sequence[Release], claims: Claims = NO_CLAIMS) -> list[Release]:
    """Returns the releases that were refused for a conflict that no longer exists."""
    contended = [release for release in releases if release.contended]
    if not contended:
        return []
    by_version = _by_version(releases)
    owned = owned_paths([*claimed_paths(claims), *release_paths(settled_releases(releases))])
    return [release for release in contended if not (_version_holder(release, by_version) or _overlaps(release, owned))]


def _version_conflicts(releases: Sequence[Release]) -> list[Refusal]:
    found = []
    by_version = _by_version(releases)
    for release in releases:
        if release.is_model and release.in_place and release.state in _PAST_CHECKS:
            holder = _version_holder(release, by_version)
            if holder is not None:
                reason = f"{holder.title} is served from {holder.file}, which has different content: give this release another version"
                found.append(Refusal(release, reason))
    return found


def _version_holder(release: Release, by_version: Mapping[_NamedVersion, Sequence[Release]]) -> Release | None:
    """Returns the release that has the name and version of `release`, comes from another file and wins."""
    for other in by_version[_named_version(release.identity)] if release.identity else ():
        if other.sha256 != release.sha256 and other.file != release.file and other.in_place and other.state in _PAST_CHECKS:
            return other if other.order < release.order or release.contended else None
    return None


def _by_version(releases: Iterable[Release]) -> dict[_NamedVersion, list[Release]]:
    """Returns the releases of each version, in their order."""
    found: dict[_NamedVersion, list[Release]] = {}
    for release in sorted(releases, key=lambda each: each.order):
        if release.identity:
            found.setdefault(_named_version(release.identity), []).append(release)
    return found


def _named_version(identity: Identity) -> _NamedVersion:
    return identity.kind, identity.name, Version(identity.version)


def _path_conflicts(releases: Sequence[Release], claims: Claims) -> list[Refusal]:
    """Returns the releases with a path that overlaps a path of another model. A release that is refused keeps no other path either."""
    granted = OwnedPaths()
    refused: dict[Release, str] = {}
    for owner in by_precedence([*claimed_paths(claims), *release_paths(settled_releases(releases))], claims):
        if owner.release in refused:
            continue
        holder = granted.find_overlap(owner.path, owner.model)
        if holder is None:
            if owner.release is None or not owner.release.awaits:  # else it is not known yet who gets it
                granted.add_path(owner)
        elif owner.release is not None:
            refused[owner.release] = _overlap_reason(owner, holder)
            for path in release_paths([owner.release]):
                granted.remove_path(path)
    return list(starmap(Refusal, refused.items()))


def _overlaps(release: Release, owned: OwnedPaths) -> bool:
    return any(owned.find_overlap(each.path, each.model) for each in release_paths([release]))


def _overlap_reason(owner: PathOwner, holder: PathOwner) -> str:
    same = "" if owner.path == holder.path else f" as {holder.path}"
    by = f"{holder.release.title}{same}, from {holder.release.file}" if holder.release else f"model {holder.model}{same}"
    return (
        f"path {owner.path} belongs to {by}, and a request must not match paths of two models: "
        f"give {owner.model} a path that overlaps none of {holder.model}, or remove the files of {holder.model} and restart Pexdock"
    )
