"""Selects the distributions that a model must carry, given those of base. Pure: a callback returns the distributions that it needs next."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from packaging.utils import canonicalize_name

from runtime.build.project import ModelOptions
from runtime.build.tool import BuildFailed
from runtime.pex.check import unmet_reason
from runtime.pex.distribution import Distribution
from runtime.pex.file import SDK, PexFile
from runtime.pex.requirements import ActiveRequirement, active_requirements, broken_requirements, format_requirement, walk_requirements

Fetch = Callable[[Collection[str]], Mapping[str, Distribution]]
"""Returns the distributions that the model's lock pins under these names, or raises BuildFailed."""


def select_distributions(model: Distribution, base: PexFile, options: ModelOptions, fetch: Fetch) -> dict[str, Distribution]:
    """Returns the distributions of the model's pex by name: the model, those that it carries on purpose, and those that base lacks.

    A requirement with an address is met by what the lock pins under that name, and not by base.

    Args:
        model: The model's own distribution.
        base: The base that it is built on.
        options: What it carries although base has it, and what it does without.
        fetch: Returns further distributions.

    Raises:
        BuildFailed: Base does not meet the model's requirements, or the model does not meet those of base. The message names both sides and
            what to do.
    """
    own = {model.name: model}
    wanted = set(options.carry)
    while True:
        kept = {name: distribution for name, distribution in base.distributions.items() if name not in wanted}
        found = {**kept, **own}
        requirements = list(walk_requirements(own.values(), found))
        # The SDK is the exception: it must be that of the runtime that starts the worker.
        wanted |= {each.name for each in requirements if each.requirement.url and each.name != SDK}
        _refuse_conflicts([each for each in requirements if each.name not in wanted or each.name in own], found, base)
        missing = ({each.name for each in requirements if each.name not in found} | wanted) - set(own) - set(options.exclude)
        if not missing:
            break
        own |= fetch(sorted(missing))
    _refuse_idle_exclusions(options.exclude, requirements)
    _refuse_broken_base([distribution for name, distribution in kept.items() if name not in own], own, base)
    return own


def _refuse_conflicts(requirements: list[ActiveRequirement], found: Mapping[str, Distribution], base: PexFile) -> None:
    unmet = [each for each in requirements if each.name in found and not each.accepts(found[each.name])]
    reasons = {_impossible_reason(each, base) or unmet_reason(each, found[each.name], base) for each in unmet}
    if reasons:
        raise BuildFailed("\n".join(sorted(reasons)))


def _impossible_reason(wanted: ActiveRequirement, base: PexFile) -> str:
    """Returns a message if no version at all meets both this requirement and that of the SDK; empty otherwise."""
    for own in active_requirements(base.distributions[SDK]):
        both = own.requirement.specifier & wanted.requirement.specifier
        if own.name == wanted.name and both.is_unsatisfiable():
            return f"{wanted}, but {_sdk_reason(own, base)}"
    return ""


def _sdk_reason(own: ActiveRequirement, base: PexFile) -> str:
    return (
        f"{SDK} {base.version} itself needs {format_requirement(own.requirement)} in every worker: no model can carry another version; "
        f"make the model work with {canonicalize_name(own.requirement.name)} of base, or run it outside of Pexdock"
    )


def _refuse_idle_exclusions(exclude: Collection[str], requirements: list[ActiveRequirement]) -> None:
    idle = sorted(set(exclude) - {each.name for each in requirements})
    if idle:
        raise BuildFailed(f"exclude in [tool.pexdock] names {', '.join(idle)}, which neither the model nor what it carries requires")


def _refuse_broken_base(kept: list[Distribution], own: Mapping[str, Distribution], base: PexFile) -> None:
    """Raises BuildFailed if a distribution that the model carries does not meet a requirement of one that it takes from base."""
    reasons = [
        f"the model carries {own[broken.name].name} {own[broken.name].version}, but {_broken_reason(broken, base)}"
        for broken in broken_requirements(kept, own)
    ]
    if reasons:
        raise BuildFailed("\n".join(sorted(set(reasons))))


def _broken_reason(broken: ActiveRequirement, base: PexFile) -> str:
    name = broken.requirer.name
    if name == SDK:
        return _sdk_reason(broken, base)
    return f"in base {base.version} {broken}; carry {name} too (`--carry {name}`, with a version in the model's lock that accepts it)"
