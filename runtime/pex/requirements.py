"""Whether a set of distributions gives each of them what it requires. Pure: knows neither files nor indexes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runtime.pex.distribution import Distribution


@dataclass(frozen=True)
class ActiveRequirement:
    """`requirer` requires `requirement` here: its marker holds for this interpreter and the extras that were asked for."""

    requirer: Distribution
    requirement: Requirement

    @property
    def name(self) -> str:
        """The canonical name of what is required."""
        return str(canonicalize_name(self.requirement.name))

    def accepts(self, found: Distribution) -> bool:
        """Whether `found` satisfies it. Pre-releases count, since whoever pinned one meant it."""
        return self.requirement.specifier.contains(found.version, prereleases=True)

    def __str__(self) -> str:
        return f"{self.requirer.name} {self.requirer.version} requires {format_requirement(self.requirement)}"


def format_requirement(requirement: Requirement) -> str:
    """A requirement as people write it, without its marker: `scikit-learn<1.8,>=1.7`."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}{f' @ {requirement.url}' if requirement.url else ''}"


def active_requirements(found: Distribution, extras: Iterable[str] = ()) -> Iterator[ActiveRequirement]:
    """The requirements of `found` that hold here, with those of the extras."""
    wanted = ("", *sorted(extras))
    for requirement in found.requires:
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in wanted):
            yield ActiveRequirement(found, requirement)


def walk_requirements(roots: Iterable[Distribution], found: Mapping[str, Distribution]) -> Iterator[ActiveRequirement]:
    """Every need of the roots, and of what they ask for an extra of.

    Args:
        roots: distributions whose every requirement must hold.
        found: all that is there, by canonical name. What is missing in it is yielded, and not followed.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    queue: list[tuple[Distribution, frozenset[str]]] = [(root, frozenset()) for root in roots]
    while queue:
        distribution, extras = queue.pop(0)
        for need in active_requirements(distribution, extras):
            yield need
            fresh = need.requirement.extras - seen[need.name]
            if fresh and need.name in found:
                seen[need.name] |= fresh
                queue.append((found[need.name], frozenset(fresh)))


def broken_requirements(kept: Iterable[Distribution], replaced: Mapping[str, Distribution]) -> list[ActiveRequirement]:
    """What the kept distributions require of the replaced ones and no longer get. Extras are left aside: nobody asks here."""
    needs = (need for distribution in kept for need in active_requirements(distribution))
    return [need for need in needs if need.name in replaced and not need.accepts(replaced[need.name])]
