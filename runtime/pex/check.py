"""Checks whether a model's pex can run on a base, on this interpreter and machine. Pure, except for the interpreter's version and tags."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.tags import sys_tags
from packaging.version import Version

from base.errors import PexRefused
from base.ipc.control import WIRE_VERSION
from runtime.pex.archive import prefix_file_name
from runtime.pex.distribution import Distribution
from runtime.pex.file import SDK, PexFile
from runtime.pex.requirements import ActiveRequirement, broken_requirements, walk_requirements

_NAMES_MAX = 5


def check_pex(model: PexFile, base: PexFile, *, base_sha256: str | None = None) -> list[str]:
    """Checks whether a model can run on a base, on this interpreter and machine.

    Args:
        model: The model's file.
        base: The base's file.
        base_sha256: Digest of the base's file, if it is known.

    Returns:
        Warnings, in spite of which the model can run.

    Raises:
        PexRefused: The model cannot run. The message names both sides and what to do.
    """
    with prefix_file_name(model.path):
        _check_interpreter(model)
        _check_tags(model)
        _check_wire(model, base)
        provided = {**base.distributions, **model.distributions}
        _check_requirements(model, base, provided)
    return [*_carried_warnings(model, base), *_broken_requirement_warnings(model, base), *_digest_warnings(model, base, base_sha256)]


def _check_interpreter(model: PexFile) -> None:
    constraints = [_constraint(text) for text in model.interpreter_constraints]
    version, implementation = platform.python_version(), platform.python_implementation()
    # Constraints are alternatives: pex accepts an interpreter that meets any of them.
    if constraints and not any(name in {"", implementation} and want.contains(version, prereleases=True) for name, want in constraints):
        wanted = " or ".join(model.interpreter_constraints)
        raise PexRefused(f"it needs {wanted}, and this is {implementation} {version}; build it with this interpreter")


def _constraint(text: str) -> tuple[str, SpecifierSet]:
    """Parses `CPython==3.11.*` or `>=3.11` to the name of the implementation, which may be empty, and the versions."""
    try:
        if text[:1].isalpha():
            requirement = Requirement(text)
            return requirement.name, requirement.specifier
        return "", SpecifierSet(text)
    except (InvalidRequirement, InvalidSpecifier) as exc:
        raise PexRefused(f"its interpreter constraint {text!r} is invalid") from exc


def _check_tags(model: PexFile) -> None:
    here = frozenset(sys_tags())
    for distribution in model.distributions.values():
        if not distribution.tags & here:
            tags = ", ".join(sorted(map(str, distribution.tags)))
            raise PexRefused(
                f"it contains {distribution.name} {distribution.version} for another interpreter or machine ({tags}); "
                f"build it with Python {platform.python_version()} on {platform.machine()}"
            )


def _check_wire(model: PexFile, base: PexFile) -> None:
    for who, stamp in (("it", model.stamp), (f"its base {base.version}", base.stamp)):
        if stamp is not None and (mismatch := wire_mismatch(who, stamp.wire)):
            raise PexRefused(mismatch)


def wire_mismatch(who: str, wire: int) -> str:
    """Returns a message that says why a worker of this wire version cannot serve here and what to do; empty if it can serve."""
    if wire < WIRE_VERSION:
        return f"{who} has wire version {wire}, older than {WIRE_VERSION} of this runtime; rebuild the model on a current base"
    if wire > WIRE_VERSION:
        return f"{who} has wire version {wire}, newer than {WIRE_VERSION} of this runtime; restart Pexdock from the newer base"
    return ""


def _check_requirements(model: PexFile, base: PexFile, provided: Mapping[str, Distribution]) -> None:
    excluded = model.stamp.excluded if model.stamp else []
    for requirement in walk_requirements(model.distributions.values(), provided):
        found = provided.get(requirement.name)
        if found is None and requirement.name in excluded:
            continue
        if found is None:
            raise PexRefused(f"{requirement}, which neither the pex nor base {base.version} contains; build it with `pexdock build model`")
        if not requirement.accepts(found):
            raise PexRefused(unmet_reason(requirement, found, base))


def unmet_reason(requirement: ActiveRequirement, found: Distribution, base: PexFile) -> str:
    """Returns a message about a requirement that `found` does not meet. It names both sides and says what to do."""
    side = f"base {base.version} provides" if base.distributions.get(requirement.name) == found else "the model carries"
    name = requirement.name
    return (
        f"{requirement}, but {side} {found.name} {found.version}; relax the requirement, build on another base, or carry another version: "
        f'`pexdock build model --carry {name}`, or carry = ["{name}"] under [tool.pexdock] in its pyproject.toml'
    )


def _carried_warnings(model: PexFile, base: PexFile) -> Iterator[str]:
    """Yields warnings about distributions that a model contains although its base has the same version, and about an SDK in the model."""
    shared = {name: own for name, own in model.distributions.items() if name in base.distributions}
    double = sorted(name for name, own in shared.items() if own.version == base.distributions[name].version)
    if double:
        size = sum(shared[name].size_bytes for name in double) / 1e6
        names = ", ".join(double[:_NAMES_MAX]) + (f" and {len(double) - _NAMES_MAX} more" if len(double) > _NAMES_MAX else "")
        yield f"{model.path.name} carries what base {base.version} already has ({names}); without it the file is {size:.1f} MB smaller"
    if SDK in model.distributions and model.distributions[SDK].version != base.distributions[SDK].version:
        yield f"{model.path.name} carries {SDK} {model.distributions[SDK].version} and runs on it instead of base {base.version}"


def _broken_requirement_warnings(model: PexFile, base: PexFile) -> Iterator[str]:
    kept = [distribution for name, distribution in base.distributions.items() if name not in model.distributions]
    for requirement in broken_requirements(kept, model.distributions):
        carried = model.distributions[requirement.name]
        yield f"{model.path.name} carries {carried.name} {carried.version}, but in base {base.version} {requirement}"


def _digest_warnings(model: PexFile, base: PexFile, sha256: str | None) -> Iterator[str]:
    """Yields a warning if the base was rebuilt under its old version number."""
    stamped = model.stamp.base if model.stamp else None
    if stamped and sha256 and stamped.version == base.version and stamped.sha256 != sha256:
        yield f"{model.path.name} was built on a base {base.version} other than {base.path.name}; its requirements are met nevertheless"


def choose_base(model: PexFile, bases: Sequence[PexFile]) -> PexFile:
    """Returns the base on which a model was built; if its file does not name one, the newest base with this wire version.

    Raises:
        PexRefused: The base is not among `bases`. The message names the missing file.
    """
    stamped = model.stamp.base if model.stamp else None
    if stamped is None:
        if not bases:
            raise PexRefused(f"{model.path.name} needs a base, and there is none; build one with `pexdock build base`")
        return max(bases, key=lambda base: (base.stamp is None or base.stamp.wire == WIRE_VERSION, Version(base.version)))
    found = [base for base in bases if base.version == stamped.version]
    if not found:
        have = ", ".join(sorted(base.path.name for base in bases)) or "none"
        raise PexRefused(
            f"{model.path.name} was built on base-{stamped.version}.pex, which is missing (available: {have}); "
            "add that file or rebuild the model"
        )
    return found[0]
