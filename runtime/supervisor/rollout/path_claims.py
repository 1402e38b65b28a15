"""Paths of endpoints, and the models that they belong to. Pure: it decides and has no effects.

Two paths overlap if a request could match both: `/{any}` and `/iris`, or `/a/{x}` and `/{y}/b`. Overlapping paths belong to one model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from types import MappingProxyType
from typing import NamedTuple

from base.endpoint.path import path_pattern, path_shape
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState

Claims = Mapping[str, Sequence[str]]
"""Model → the paths with which it has served. No path of one model overlaps a path of another."""

NO_CLAIMS: Claims = MappingProxyType({})


class PathOwner(NamedTuple):
    """A path and its model, and the release that has it; no release if the model has only served with this path before."""

    path: str
    model: str
    release: Release | None


_Form = tuple[bool, ...]
"""Whether each segment of a path is literal."""

_Literals = Callable[[Sequence[str | None]], object]
_Index = dict[object, dict[str, dict[PathOwner, None]]]


class OwnedPaths:
    """Paths that models own, to find those that overlap another path.

    Two paths overlap if they have equal literals wherever both have a literal. So there is an index by these literals for each two forms
    that are compared, and the time for a path depends on the number of forms, not on the number of paths.
    """

    def __init__(self) -> None:
        self._owners: dict[_Form, dict[PathOwner, None]] = {}
        self._indexes: dict[_Form, dict[_Form, tuple[_Literals, _Index]]] = {}  # owned form → form that is looked up → index

    def add_path(self, owner: PathOwner) -> None:
        """Adds a path."""
        pattern, form = path_pattern(owner.path), path_form(owner.path)
        self._owners.setdefault(form, {})[owner] = None
        for literals, index in self._indexes.get(form, {}).values():
            index.setdefault(literals(pattern), {}).setdefault(owner.model, {})[owner] = None

    def remove_path(self, owner: PathOwner) -> None:
        """Removes a path if it is there."""
        pattern, form = path_pattern(owner.path), path_form(owner.path)
        self._owners.get(form, {}).pop(owner, None)
        for literals, index in self._indexes.get(form, {}).values():
            models = index.get(literals(pattern), {})
            if owner in models.get(owner.model, {}):
                del models[owner.model][owner]
                if not models[owner.model]:
                    del models[owner.model]

    def find_overlap(self, path: str, model: str) -> PathOwner | None:
        """Returns a path of another model than `model` that overlaps `path`; None if there is none."""
        pattern, form = path_pattern(path), path_form(path)
        for owned in self._owners:
            if len(owned) == len(form):
                literals, index = self._indexes.setdefault(owned, {}).get(form) or self._make_index(owned, form)
                for other, owners in index.get(literals(pattern), {}).items():
                    if other != model:
                        return next(reversed(owners))
        return None

    def _make_index(self, owned: _Form, form: _Form) -> tuple[_Literals, _Index]:
        common = [place for place, both in enumerate(zip(owned, form, strict=True)) if all(both)]
        literals: _Literals = itemgetter(*common) if common else len
        index: _Index = {}
        for owner in self._owners[owned]:
            index.setdefault(literals(path_pattern(owner.path)), {}).setdefault(owner.model, {})[owner] = None
        self._indexes[owned][form] = literals, index
        return literals, index


@lru_cache(4096)
def path_form(path: str) -> tuple[bool, ...]:
    """Returns whether each segment of a path is literal. Two paths of one form overlap only if they are equal but for names."""
    return tuple(segment is not None for segment in path_pattern(path))


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


def settled_releases(releases: Iterable[Release]) -> list[Release]:
    """Returns the releases whose paths are known, and which serve or are likely to."""
    return [each for each in releases if each.is_model and each.state is ReleaseState.RUNNING and each.spec and not each.keeps_failing]


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


def has_new_paths(release: Release, claims: Claims) -> bool:
    """Returns whether a release has a path with which its model has not served."""
    claimed = {path_shape(path) for path in claims.get(release.name, ())}
    return any(path_shape(each.path) not in claimed for each in release_paths([release]))


def updated_claims(claims: Claims, serving: Mapping[str, Iterable[Release]]) -> dict[str, list[str]]:
    """Returns the claims after models have served. Paths that other models had before and no longer use are theirs no longer.

    Args:
        claims: The claims so far.
        serving: Model → its releases that serve or may serve again at once, for each model that serves.
    """
    taken = {model: _distinct_paths(releases) for model, releases in serving.items()}
    others = {model: paths for model, paths in claims.items() if model not in taken}
    index = owned_paths(claimed_paths(taken) if others else ())
    kept = {model: [path for path in paths if index.find_overlap(path, model) is None] for model, paths in others.items()}
    return kept | taken


def _distinct_paths(releases: Iterable[Release]) -> list[str]:
    return sorted({path_shape(each.path): each.path for each in release_paths(releases)}.values())
