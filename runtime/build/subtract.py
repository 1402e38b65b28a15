"""Selects the distributions that a model must carry, given those of base. Pure: a callback returns the distributions that it needs next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from runtime.build.tool import BuildFailed
from runtime.pex.check import unmet_reason
from runtime.pex.distribution import Distribution
from runtime.pex.file import SDK, PexFile
from runtime.pex.requirements import ActiveRequirement, broken_requirements, walk_requirements

Fetch = Callable[[Collection[str]], Mapping[str, Distribution]]
"""Returns the distributions that the model's lock pins under these names, or raises BuildFailed."""


def select_distributions(model: Distribution, base: PexFile, carry: Collection[str], fetch: Fetch) -> dict[str, Distribution]:
    """Returns the distributions of the model's pex by name: the model, those that it carries on purpose, and those that base lacks.

    Args:
        model: The model's own distribution.
        base: The base that it is built on.
        carry: Names that it carries although base has them.
        fetch: Returns further distributions.

    Raises:
        BuildFailed: Base does not meet the model's requirements, or the model does not meet those of base. The message names both sides and
            what to do.
    """
    own = {model.name: model}
    kept = {name: distribution for name, distribution in base.distributions.items() if name not in carry}
    while True:
        found = {**kept, **own}
        requirements = list(walk_requirements(own.values(), found))
        _refuse_conflicts(requirements, found, base)
        missing = {each.name for each in requirements if each.name not in found} | (set(carry) - set(own))
        if not missing:
            break
        own |= fetch(sorted(missing))
    _refuse_broken_base([distribution for name, distribution in kept.items() if name not in own], own, base)
    return own


def _refuse_conflicts(requirements: list[ActiveRequirement], found: Mapping[str, Distribution], base: PexFile) -> None:
    for each in requirements:
        if each.requirement.url is not None:
            raise BuildFailed(_url_reason(each, base))
    unmet = [each for each in requirements if each.name in found and not each.accepts(found[each.name])]
    reasons = {unmet_reason(each, found[each.name], base) for each in unmet}
    if reasons:
        raise BuildFailed("\n".join(sorted(reasons)))


def _url_reason(requirement: ActiveRequirement, base: PexFile) -> str:
    name = requirement.name
    if name in base.distributions:
        path = "../.." if name == SDK else "..."
        return (
            f"{requirement}, a path that exists only on this machine. Base provides {name}: remove it from [project] "
            f"dependencies and [tool.poetry.dependencies], and declare it for development only:\n"
            f'    [tool.poetry.group.base.dependencies]\n    {name} = {{ path = "{path}", develop = true }}'
        )
    return f"{requirement}, a URL, which a lock cannot verify; require a version instead"


def _refuse_broken_base(kept: list[Distribution], own: Mapping[str, Distribution], base: PexFile) -> None:
    """Raises BuildFailed if a distribution that the model carries does not meet a requirement of one that it takes from base."""
    reasons = [
        f"the model carries {own[broken.name].name} {own[broken.name].version}, but in base {base.version} {broken}; "
        f"carry {broken.requirer.name} too (`--carry {broken.requirer.name}`, with a version in the model's lock that accepts it)"
        for broken in broken_requirements(kept, own)
    ]
    if reasons:
        raise BuildFailed("\n".join(sorted(set(reasons))))
