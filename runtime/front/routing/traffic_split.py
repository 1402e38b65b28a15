"""The releases of one model that get requests: by weight, by name, or as a fallback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from base.endpoint.path import routed_path
from base.errors import NotFound
from base.ipc.front_door_control import SplitSpec
from runtime.front.requests.endpoint import ServedEndpoint, ServedRelease
from runtime.front.routing.mirroring import MirrorSampler, RequestMirror
from runtime.front.routing.path_trie import Match, PathTrie
from runtime.front.routing.weighted_choice import GOLDEN, LowDiscrepancySequence

STABLE = "stable"
"""The label of the release that serves by default; no other release can have it."""

_SHOWN_MAX_CHARS = 64


class TrafficSplit:
    """Divides the requests for one model among its releases.

    Args:
        spec: The split; None divides the requests evenly.
        releases: All releases of the model in the routing table, at least one.
        mirrors: Mirrors of the releases that get copies, by release id.

    Attributes:
        weights: Weights of the releases that divide the requests, by release id.
        fallback: Release that answers while no release with a weight can; None if there is no such release.
        affinity: Kind of key that keeps a client with one release: "header", "parameter" or "column"; "" for none.
        affinity_name: Name of that header, parameter or column.
        sequence: Chooses among the weights.
        mirror: Chooses the requests that are mirrored; None disables mirroring.
    """

    def __init__(
        self, spec: SplitSpec | None, releases: Sequence[ServedRelease], mirrors: Mapping[str, RequestMirror] | None = None
    ) -> None:
        spec = spec or SplitSpec({each.id: 1 for each in releases})
        self._tries = {each.id: _path_trie(each) for each in releases}
        self._releases = {each.id: each for each in releases if not spec.hides(each.id)}
        self._labels = spec.labels
        # Sorted by id, so that all front doors choose alike, regardless of the order of the releases in their table.
        self.weights = {each: spec.weights[each] for each in sorted(self._releases) if spec.weights.get(each, 0) > 0}
        self.fallback = next((each for each in releases if each.id == spec.fallback), None)
        self.affinity, _, self.affinity_name = spec.by.partition(":")
        self.sequence = LowDiscrepancySequence(GOLDEN)
        mirror = None if spec.mirror is None else (mirrors or {}).get(spec.mirror.release_id)
        self.mirror = None if mirror is None or spec.mirror is None else MirrorSampler(mirror, spec.mirror.percent / 100)

    @property
    def primary(self) -> ServedRelease:
        """The release with the highest weight, which represents the model where only one release can be used."""
        return self._releases[max(self.weights or self._releases, key=lambda each: self.weights.get(each, 0))]

    @property
    def weighted(self) -> list[ServedRelease]:
        """The releases that divide the requests, with the primary first."""
        return [each for each in reversed(self.by_weight()) if each.id in self.weights]

    @property
    def up(self) -> bool:
        """True if a release with a weight, or the fallback, can answer."""
        return any(self._releases[each].up for each in self.weights) or (self.fallback is not None and self.fallback.up)

    def by_weight(self) -> list[ServedRelease]:
        """Returns all releases that requests can reach by weight or name, with the primary last."""
        return sorted(self._releases.values(), key=lambda each: (each is self.primary, self.weights.get(each.id, 0)))

    def match_path(self, path: bytes) -> dict[str, Match[ServedEndpoint]]:
        """Returns the match of a path in each release that has it, by release id.

        Raises:
            Misfit: As `PathTrie.match`.
        """
        matches = {release_id: trie.match(path) for release_id, trie in self._tries.items()}
        return {release_id: match for release_id, match in matches.items() if match is not None}

    def release_by_name(self, name: str) -> ServedRelease:
        """Returns the release with this version or label.

        Raises:
            NotFound: No release that takes requests has this name.
        """
        found = self._releases.get(self._labels[name]) if name in self._labels else None
        if name not in self._labels:
            versions = [each for each in reversed(self.by_weight()) if each.spec.version == name]
            found = versions[0] if versions else self.primary if name == STABLE else None
        if found is None:
            raise NotFound(f"{self.primary.spec.model} has no release {name[:_SHOWN_MAX_CHARS]!r}; {self._available_names()}")
        return found

    def _available_names(self) -> str:
        versions = sorted({each.spec.version for each in self._releases.values()})
        labels = sorted({STABLE, *(label for label, each in self._labels.items() if each in self._releases)})
        return f"available versions: {', '.join(versions)}; labels: {', '.join(labels)}"


def _path_trie(release: ServedRelease) -> PathTrie[ServedEndpoint]:
    trie: PathTrie[ServedEndpoint] = PathTrie()
    for endpoint in release.endpoints:
        trie.add_path(routed_path(endpoint.spec.method, endpoint.spec.path), endpoint)
    return trie
