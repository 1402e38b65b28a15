"""Checks the requirements that distributions have of each other. Pure: knows neither files nor indexes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runtime.pex.distribution import Distribution


@dataclass(frozen=True)
class ActiveRequirement:
    """A requirement whose marker holds for this interpreter and the requested extras, and the distribution that has it."""

    requirer: Distribution
    requirement: Requirement

    @property
    def name(self) -> str:
        """Canonical name of the required distribution."""
        return str(canonicalize_name(self.requirement.name))

    def accepts(self, found: Distribution) -> bool:
        """Returns whether `found` satisfies the requirement. Pre-releases count, since a pinned pre-release is intended."""
        return self.requirement.specifier.contains(found.version, prereleases=True)

    def __str__(self) -> str:
        return f"{self.requirer.name} {self.requirer.version} requires {format_requirement(self.requirement)}"


def format_requirement(requirement: Requirement) -> str:
    """Returns a requirement without its marker, such as `scikit-learn<1.8,>=1.7`."""
    extras = f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""
    return f"{requirement.name}{extras}{requirement.specifier}{f' @ {requirement.url}' if requirement.url else ''}"


def active_requirements(found: Distribution, extras: Iterable[str] = ()) -> Iterator[ActiveRequirement]:
    """Yields the requirements of `found` that hold here, including those of the extras."""
    wanted = ("", *sorted(extras))
    for requirement in found.requires:
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in wanted):
            yield ActiveRequirement(found, requirement)


def walk_requirements(roots: Iterable[Distribution], found: Mapping[str, Distribution]) -> Iterator[ActiveRequirement]:
    """Yields every requirement of the roots, and of the extras that they request of other distributions.

    Args:
        roots: Distributions whose requirements must all be met.
        found: All distributions, by canonical name. Requirements of missing ones cannot be followed.
    """
    seen: dict[str, set[str]] = defaultdict(set)
    queue: list[tuple[Distribution, frozenset[str]]] = [(root, frozenset()) for root in roots]
    while queue:
        distribution, extras = queue.pop(0)
        for active in active_requirements(distribution, extras):
            yield active
            fresh = active.requirement.extras - seen[active.name]
            if fresh and active.name in found:
                seen[active.name] |= fresh
                queue.append((found[active.name], frozenset(fresh)))


def broken_requirements(kept: Iterable[Distribution], replaced: Mapping[str, Distribution]) -> list[ActiveRequirement]:
    """Returns the requirements of the kept distributions that the replaced ones no longer meet. Extras do not count."""
    active = (requirement for distribution in kept for requirement in active_requirements(distribution))
    return [requirement for requirement in active if requirement.name in replaced and not requirement.accepts(replaced[requirement.name])]
