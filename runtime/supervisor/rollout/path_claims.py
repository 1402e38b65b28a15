"""Paths of endpoints, and the models that they belong to. Pure: it decides and has no effects.

Two paths overlap if a request could match both: `/{any}` and `/iris`, or `/a/{x}` and `/{y}/b`. Overlapping paths belong to one model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from base.endpoint.path import path_pattern, path_shape
from runtime.supervisor.rollout.release import Release

Claims = Mapping[str, Sequence[str]]
"""Model → the paths with which it has served. No path of one model overlaps a path of another."""

NO_CLAIMS: Claims = MappingProxyType({})


class PathOwner(NamedTuple):
    """A path and its model, and the release that has it; no release if the model has only served with this path before."""

    path: str
    model: str
    release: Release | None


@dataclass
class _Node:
    children: dict[str, _Node] = field(default_factory=dict)
    parameter: _Node | None = None
    owner: PathOwner | None = None


class OwnedPaths:
    """Paths that models own, as a tree of segments, to find those that overlap another path."""

    def __init__(self) -> None:
        self._root = _Node()

    def add_path(self, owner: PathOwner) -> None:
        """Adds a path. It replaces a path of the same shape."""
        node = self._root
        for segment in path_pattern(owner.path):
            if segment is None:
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.children.setdefault(segment, _Node())
        node.owner = owner

    def find_overlap(self, path: str, model: str) -> PathOwner | None:
        """Returns a path of another model than `model` that overlaps `path`; None if there is none."""
        nodes = [self._root]
        for segment in path_pattern(path):
            nodes = [child for node in nodes for child in _matching_children(node, segment)]
        return next((node.owner for node in nodes if node.owner is not None and node.owner.model != model), None)


def _matching_children(node: _Node, segment: str | None) -> list[_Node]:
    parameter = [] if node.parameter is None else [node.parameter]
    if segment is None:
        return [*node.children.values(), *parameter]
    return [node.children[segment], *parameter] if segment in node.children else parameter


def owned_paths(owners: Iterable[PathOwner]) -> OwnedPaths:
    """Returns an index of paths."""
    index = OwnedPaths()
    for owner in owners:
        index.add_path(owner)
    return index


def claimed_paths(claims: Claims) -> list[PathOwner]:
    """Returns the paths of claims."""
    return [PathOwner(path, model, None) for model, paths in claims.items() for path in paths]


def release_paths(releases: Iterable[Release]) -> list[PathOwner]:
    """Returns the paths that releases are known to have."""
    return [PathOwner(each.path, release.name, release) for release in releases if release.spec for each in release.spec.endpoints]


def by_precedence(owners: Iterable[PathOwner], claims: Claims) -> list[PathOwner]:
    """Returns paths in the order in which they are granted. A path is granted if it overlaps no earlier path of another model.

    A model that has served with the path comes first, then the more specific path, then the name of the model. The time at which a model
    becomes ready has no influence.
    """
    claimed = {(model, path_shape(path)) for model, paths in claims.items() for path in paths}

    def key(owner: PathOwner) -> tuple[bool, list[bool], str, str]:
        shape = path_shape(owner.path)
        return ((owner.model, shape) not in claimed, [segment is None for segment in path_pattern(owner.path)], owner.model, shape)

    return sorted(owners, key=key)


def may_belong_to_others(release: Release, claims: Claims) -> bool:
    """Returns whether a path of a release may overlap the paths of models that are not known yet, and belong to one of them.

    Such a path has parameters, and its model has not served with it before.
    """
    claimed = {path_shape(path) for path in claims.get(release.name, ())}
    return any(None in path_pattern(each.path) and path_shape(each.path) not in claimed for each in release_paths([release]))


def updated_claims(claims: Claims, serving: Mapping[str, Iterable[Release]]) -> dict[str, list[str]]:
    """Returns the claims after models have served. Paths that other models had before and no longer use are theirs no longer.

    Args:
        claims: The claims so far.
        serving: Model → its releases that serve or may serve again at once, for each model that serves.
    """
    taken = {model: _distinct_paths(releases) for model, releases in serving.items()}
    index = owned_paths(claimed_paths(taken))
    kept = {
        model: [path for path in paths if index.find_overlap(path, model) is None] for model, paths in claims.items() if model not in taken
    }
    return kept | taken


def _distinct_paths(releases: Iterable[Release]) -> list[str]:
    return sorted({path_shape(each.path): each.path for each in release_paths(releases)}.values())
