"""Whether a model's pex can run on a base's, on this interpreter and machine. Pure but for asking the interpreter what it is."""

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
    """Whether a model can run on a base, on this interpreter and machine.

    Args:
        model: the model's file.
        base: the base's file.
        base_sha256: the digest of that file, where it is known.

    Returns:
        Warnings: it can run, yet someone should look.

    Raises:
        PexRefused: it cannot. The message names both sides and the ways out.
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
    # Constraints are alternatives: pex takes an interpreter that meets any of them.
    if constraints and not any(name in {"", implementation} and want.contains(version, prereleases=True) for name, want in constraints):
        wanted = " or ".join(model.interpreter_constraints)
        raise PexRefused(f"it is for {wanted}, and this is {implementation} {version}; build it with this interpreter")


def _constraint(text: str) -> tuple[str, SpecifierSet]:
    """`CPython==3.11.*` or `>=3.11` as the implementation's name, which may be empty, and the versions."""
    try:
        if text[:1].isalpha():
            requirement = Requirement(text)
            return requirement.name, requirement.specifier
        return "", SpecifierSet(text)
    except (InvalidRequirement, InvalidSpecifier) as exc:
        raise PexRefused(f"its interpreter constraint {text!r} is not understood") from exc


def _check_tags(model: PexFile) -> None:
    here = frozenset(sys_tags())
    for distribution in model.distributions.values():
        if not distribution.tags & here:
            tags = ", ".join(sorted(map(str, distribution.tags)))
            raise PexRefused(
                f"{distribution.name} {distribution.version} in it is for another interpreter or machine ({tags}); "
                f"build it with Python {platform.python_version()} on {platform.machine()}"
            )


def _check_wire(model: PexFile, base: PexFile) -> None:
    for who, stamp in (("it", model.stamp), (f"its base {base.version}", base.stamp)):
        if stamp is not None and (misfit := wire_mismatch(who, stamp.wire)):
            raise PexRefused(misfit)


def wire_mismatch(who: str, wire: int) -> str:
    """Why a worker of this wire version cannot serve here, which side is older, and what to do; empty where it can."""
    if wire < WIRE_VERSION:
        return f"{who} speaks wire version {wire}, older than {WIRE_VERSION} of this runtime; build the model again, on a base of now"
    if wire > WIRE_VERSION:
        return f"{who} speaks wire version {wire}, newer than {WIRE_VERSION} of this runtime; start Pexdock again from the newer base"
    return ""


def _check_requirements(model: PexFile, base: PexFile, provided: Mapping[str, Distribution]) -> None:
    for need in walk_requirements(model.distributions.values(), provided):
        found = provided.get(need.name)
        if found is None:
            raise PexRefused(f"{need}, which neither it nor base {base.version} holds; build it with `pexdock build model`")
        if not need.accepts(found):
            raise PexRefused(unmet_reason(need, found, base))


def unmet_reason(need: ActiveRequirement, found: Distribution, base: PexFile) -> str:
    """Both sides of a need that what is there does not meet, and the ways out."""
    side = f"base {base.version} provides" if base.distributions.get(need.name) == found else "it carries"
    return (
        f"{need}, and {side} {found.name} {found.version}; relax the requirement, build on another base, or carry an own version: "
        f'`pexdock build model --carry {need.name}`, or carry = ["{need.name}"] under [tool.pexdock] in its pyproject.toml'
    )


def _carried_warnings(model: PexFile, base: PexFile) -> Iterator[str]:
    """What a model carries although base has it in the same version, and a whole SDK of its own."""
    shared = {name: own for name, own in model.distributions.items() if name in base.distributions}
    double = sorted(name for name, own in shared.items() if own.version == base.distributions[name].version)
    if double:
        size = sum(shared[name].size_bytes for name in double) / 1e6
        names = ", ".join(double[:_NAMES_MAX]) + (f" and {len(double) - _NAMES_MAX} more" if len(double) > _NAMES_MAX else "")
        yield f"{model.path.name} carries what base {base.version} has ({names}); without it the file is {size:.1f} MB smaller"
    if SDK in model.distributions and model.distributions[SDK].version != base.distributions[SDK].version:
        yield f"{model.path.name} carries {SDK} {model.distributions[SDK].version} and runs on that, not on base {base.version}"


def _broken_requirement_warnings(model: PexFile, base: PexFile) -> Iterator[str]:
    kept = [distribution for name, distribution in base.distributions.items() if name not in model.distributions]
    for need in broken_requirements(kept, model.distributions):
        carried = model.distributions[need.name]
        yield f"{model.path.name} carries {carried.name} {carried.version}, yet {need}, of base {base.version}"


def _digest_warnings(model: PexFile, base: PexFile, sha256: str | None) -> Iterator[str]:
    """A base that was built again under its old version number."""
    stamped = model.stamp.base if model.stamp else None
    if stamped and sha256 and stamped.version == base.version and stamped.sha256 != sha256:
        yield f"{model.path.name} was built on another base {base.version} than {base.path.name}; what it requires is met all the same"


def choose_base(model: PexFile, bases: Sequence[PexFile]) -> PexFile:
    """The base that a model was built on; where its file does not say, the newest of those whose workers we can speak to.

    Raises:
        PexRefused: it is not among `bases`. The message names the missing file.
    """
    stamped = model.stamp.base if model.stamp else None
    if stamped is None:
        if not bases:
            raise PexRefused(f"{model.path.name} needs a base, and there is none; make one: `pexdock build base`")
        return max(bases, key=lambda base: (base.stamp is None or base.stamp.wire == WIRE_VERSION, Version(base.version)))
    found = [base for base in bases if base.version == stamped.version]
    if not found:
        have = ", ".join(sorted(base.path.name for base in bases)) or "none"
        raise PexRefused(
            f"{model.path.name} was built on base-{stamped.version}.pex, which is missing (there is: {have}); "
            "add that file or build the model again"
        )
    return found[0]
