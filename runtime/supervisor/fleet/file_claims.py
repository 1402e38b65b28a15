"""Tracks the release that holds each file of dist/, while files are replaced, removed, or have the same content as another file."""

from __future__ import annotations

import logging

from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import VERIFIED, ReleaseState

log = logging.getLogger(__name__)

_PAST_CHECKS = frozenset({ReleaseState.WAITING, *VERIFIED})


class FileClaims:
    """Keeps `file`, `in_place` and `replaced_by` of all releases consistent with dist/.

    Args:
        releases: All releases.
    """

    def __init__(self, releases: ReleaseSet) -> None:
        self._releases = releases
        self._copies: dict[str, ManagedRelease] = {}  # file → the release with its content, which is listed under another file

    def forget_copy(self, name: str) -> None:
        """Forgets that a file has the content of a release, since it was changed or removed."""
        self._copies.pop(name, None)

    def release_file(self, name: str, replaced_by: ManagedRelease | None = None, before: int | None = None) -> None:
        """Takes a file away from the releases that came from it.

        Args:
            name: The file.
            replaced_by: The release with the new content; None if the file was removed.
            before: Affects only releases that were dropped before this one; None for all.
        """
        for managed in self._releases.of_file(name):
            release = managed.release
            if managed is not replaced_by and (before is None or release.order < before):
                if replaced_by is not None and release.replaced_by is None:
                    log.info("%s: %s now, another release than %s before", name, _with_digest(replaced_by.release), _with_digest(release))
                release.in_place = False
                release.replaced_by = replaced_by.release if replaced_by is not None else None
                self._move_to_copy(managed)

    def claim_existing(self, managed: ManagedRelease, sha256: str) -> bool:
        """Returns whether another release already has this content. That release then also holds the file of `managed`.

        The other release keeps its order, and moves to this file if its own file was removed.
        """
        name = managed.release.file
        for other in self._releases:
            if other is managed or other.release.sha256 != sha256 or other.release.state not in _PAST_CHECKS:
                continue
            self.release_file(name, replaced_by=other, before=managed.release.order)
            if other.release.file == name or not other.release.in_place:
                _assign_file(other, name)
            else:
                self._copies[name] = other
            log.info("%s: has the same content as %s", name, other.release.title)
            managed.release.in_place = False
            return True
        return False

    def _move_to_copy(self, managed: ManagedRelease) -> None:
        """Moves a release to another file with the same content, if there is one."""
        for name, holder in self._copies.items():
            if holder is managed:
                _assign_file(managed, name)
                del self._copies[name]
                return


def _assign_file(managed: ManagedRelease, name: str) -> None:
    managed.release.file, managed.release.in_place, managed.release.replaced_by = name, True, None


def _with_digest(release: Release) -> str:
    """Returns the name of a release with its digest, which distinguishes it from other content of the same version."""
    return f"{release.title} with digest {release.sha256[:8]}" if release.sha256 else "something else"
