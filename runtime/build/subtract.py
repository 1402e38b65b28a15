"""What a model must carry, given what base provides. Pure: asks for the distributions that it needs next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from runtime.build.tool import BuildFailed
from runtime.pex.check import unmet_reason
from runtime.pex.distribution import Distribution
from runtime.pex.file import SDK, PexFile
from runtime.pex.requirements import ActiveRequirement, broken_requirements, walk_requirements

Fetch = Callable[[Collection[str]], Mapping[str, Distribution]]
"""Gives the distributions that the model's lock pins under these names, or raises BuildFailed."""


def select_distributions(model: Distribution, base: PexFile, carry: Collection[str], fetch: Fetch) -> dict[str, Distribution]:
    """All that goes into the model's pex, by name: the model, what it carries on purpose, and what base lacks.

    Args:
        model: the model's own distribution.
        base: what it is built on.
        carry: names that it carries although base has them.
        fetch: where they come from.

    Raises:
        BuildFailed: what base provides does not fit the model, or what the model carries does not fit base. Each message names both
            sides and the ways out.
    """
    own = {model.name: model}
    kept = {name: distribution for name, distribution in base.distributions.items() if name not in carry}
    while True:
        found = {**kept, **own}
        needs = list(walk_requirements(own.values(), found))
        _refuse_conflicts(needs, found, base)
        lacking = {need.name for need in needs if need.name not in found} | (set(carry) - set(own))
        if not lacking:
            break
        own |= fetch(sorted(lacking))
    _refuse_disturbance([distribution for name, distribution in kept.items() if name not in own], own, base)
    return own


def _refuse_conflicts(needs: list[ActiveRequirement], found: Mapping[str, Distribution], base: PexFile) -> None:
    for need in needs:
        if need.requirement.url is not None:
            raise BuildFailed(_url_reason(need, base))
    reasons = {unmet_reason(need, found[need.name], base) for need in needs if need.name in found and not need.accepts(found[need.name])}
    if reasons:
        raise BuildFailed("\n".join(sorted(reasons)))


def _url_reason(need: ActiveRequirement, base: PexFile) -> str:
    if need.name in base.distributions:
        path = "../.." if need.name == SDK else "..."
        return (
            f"{need}, a place on this machine, which no other machine has. Base provides {need.name}: take it out of [project] "
            f"dependencies and [tool.poetry.dependencies], and declare it for development alone:\n"
            f'    [tool.poetry.group.base.dependencies]\n    {need.name} = {{ path = "{path}", develop = true }}'
        )
    return f"{need}, an address and no version, which a lock cannot verify; require a version of it"


def _refuse_disturbance(kept: list[Distribution], own: Mapping[str, Distribution], base: PexFile) -> None:
    """What stays in base must get along with what the model brings in its place."""
    reasons = [
        f"the model carries {own[need.name].name} {own[need.name].version}, and {need}, of base {base.version}; "
        f"carry {need.requirer.name} too (`--carry {need.requirer.name}`, with a version in the model's lock that accepts it)"
        for need in broken_requirements(kept, own)
    ]
    if reasons:
        raise BuildFailed("\n".join(sorted(set(reasons))))
