"""Chooses the base on which each model runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from base.errors import PexRefused
from runtime.pex.check import check_pex, choose_base
from runtime.pex.file import PexFile
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.release_state import ReleaseEvent, ReleaseState

log = logging.getLogger(__name__)

_UNPACKED_OR_SOON = frozenset({ReleaseState.UNPACKING, ReleaseState.RUNNING})


def choose_bases(releases: ReleaseSet) -> None:
    """Assigns the best base in dist/ to each release that waits for one. A release without a base keeps waiting and reports the reason."""
    bases = [each for each in releases if each.files.is_base and each.release.in_place and each.release.state in _UNPACKED_OR_SOON]
    unread = any(each.release.state is ReleaseState.VERIFYING and each.initial and each.files.pex is None for each in releases)
    for managed in releases:
        if managed.release.state is ReleaseState.WAITING:
            managed.files.base_pending = unread  # one of the unread files may be its base
            if not unread:
                _choose_base(managed, bases)


def _choose_base(managed: ManagedRelease, bases: Sequence[ManagedRelease]) -> None:
    pex, release = managed.files.pex, managed.release
    assert pex is not None
    try:
        chosen_pex = choose_base(pex, [base.files.pex for base in _by_preference(pex, bases) if base.files.pex is not None])
    except PexRefused as exc:
        if release.reason != exc.detail:
            release.reason = exc.detail
            log.warning("%s waits: %s", release.title, exc.detail)
        return
    chosen = next(base for base in bases if base.files.pex is chosen_pex)
    if chosen.files.base is None or chosen.release.state is not ReleaseState.RUNNING:
        managed.files.base_pending = True
        release.reason = f"its base {chosen_pex.version} is being unpacked"
        return
    try:
        warnings = check_pex(pex, chosen_pex, base_sha256=chosen.files.base.sha256)
    except PexRefused as exc:
        managed.leave(ReleaseEvent.REFUSED, exc.detail)
    else:
        managed.set_base(chosen.files.base, warnings)


def _by_preference(model: PexFile, bases: Sequence[ManagedRelease]) -> list[ManagedRelease]:
    """Returns the bases in the order in which to try them. Several bases may have one version, since a rebuild keeps it.

    The file on which the model was built comes first, then files whose digest is not known yet.
    """
    wanted = model.stamp.base.sha256 if model.stamp and model.stamp.base else ""
    digests = {id(base): base.files.base.sha256 if base.files.base else "" for base in bases}
    return sorted(bases, key=lambda base: (digests[id(base)] != wanted, digests[id(base)] != ""))
