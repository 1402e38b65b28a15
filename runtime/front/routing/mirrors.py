"""The mirrors of all releases that get copies of requests by the routing table in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from base.ipc.front_door_control import SplitSpec
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.routing.mirroring import RequestMirror
from runtime.front.telemetry.mirror_stats import MirrorStatsByRelease


class MirrorRegistry:
    """Keeps one mirror for each release that gets copies. A mirror that is also in the next table keeps its count of copies in flight.

    Args:
        stats: Collects comparisons; None disables mirroring.
    """

    def __init__(self, stats: MirrorStatsByRelease | None) -> None:
        self._stats = stats
        self._mirrors: dict[ServedRelease, RequestMirror] = {}

    def apply(self, splits: Mapping[str, SplitSpec], releases: Sequence[ServedRelease]) -> dict[str, RequestMirror]:
        """Returns the mirrors of a routing table by the ids of the releases that get copies.

        Args:
            splits: The traffic splits of the table, by model.
            releases: All releases of the table.
        """
        stats = self._stats
        if stats is None:
            return {}
        mirrored = {split.mirror.release_id for split in splits.values() if split.mirror is not None}
        self._mirrors = {
            release: self._mirrors.get(release)
            or RequestMirror(release, stats.release_stats(release.spec.model, release.spec.version, release.id))
            for release in releases
            if release.id in mirrored
        }
        return {release.id: mirror for release, mirror in self._mirrors.items()}
