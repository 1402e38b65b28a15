"""Reads the metadata in a pex file, without running any of its code."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
from packaging.tags import sys_tags

from base.errors import PexRefused
from runtime.pex import archive as zips
from runtime.pex.distribution import ENDPOINT_GROUP, Distribution, parse_distribution, top_level_modules

STAMP_PROPERTY = "pexdock"
"""The build property in PEX-INFO that contains the stamp."""

SDK = "pexdock"
"""The distribution of `base` and `runtime`. A pex that contains it is a base, or a model that was built by hand."""

_PEX_OWN = frozenset({".bootstrap", ".deps", "PEX-INFO", "__main__.py", "__pex__"})
_RESERVED_MODULES = frozenset({"base", "runtime"})
_PEX_INFO_MAX_BYTES = 8 * 1024 * 1024


class BaseStamp(msgspec.Struct, frozen=True):
    """The base that a model was built against: its version and the sha256 of its file."""

    version: str
    sha256: str


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The stamp that `pexdock build` writes into a pex.

    Attributes:
        kind: "base" or "model".
        name: Name of the model, or of the SDK.
        version: Its version.
        wire: Wire version of the SDK with which it was built.
        fingerprint: Hash of everything that the build depended on.
        base: The base on which a model was built; None in a base.
        provided: Name → version of the distributions that the base provides; empty in a base.
        excluded: Names of distributions that a model does without although something in it requires them.
    """

    kind: Literal["base", "model"]
    name: str
    version: str
    wire: int
    fingerprint: str
    base: BaseStamp | None = None
    provided: dict[str, str] = {}
    excluded: list[str] = []


class _PexInfo(msgspec.Struct, frozen=True):
    distributions: dict[str, str]
    interpreter_constraints: list[str] = []
    build_properties: dict[str, msgspec.Raw] = {}
    deps_are_wheel_files: bool = False


@dataclass(frozen=True)
class PexFile:
    """One pex.

    Attributes:
        path: Its file.
        kind: "base" or "model".
        name: Name of the model's own distribution, or of the SDK in a base.
        version: Version of that distribution.
        distributions: All distributions in it, by name.
        interpreter_constraints: Alternatives, such as `CPython==3.11.*`.
        stamp: The stamp of `pexdock build`; None if another tool built it.
        size_bytes: Size of the file.
    """

    path: Path
    kind: Literal["base", "model"]
    name: str
    version: str
    distributions: Mapping[str, Distribution]
    interpreter_constraints: tuple[str, ...]
    stamp: Stamp | None
    size_bytes: int

    @property
    def endpoints(self) -> Mapping[str, str]:
        """Entry points of the group `pexdock.endpoints`: name → `module:attribute`. Empty in a base."""
        return self.distributions[self.name].endpoints

    @property
    def versions(self) -> dict[str, str]:
        """Name → version of every distribution in it."""
        return {name: str(distribution.version) for name, distribution in self.distributions.items()}


def read_pex(path: Path, *, checksums: bool = True) -> PexFile:
    """Reads the pex of a base or a model.

    Args:
        path: The file.
        checksums: Whether to read every member and compare its CRC, which takes about 0.3 s for 100 MB.

    Raises:
        PexRefused: The file is neither a base nor a model. None of its code was run, and nothing was changed.
    """
    with zips.open_archive(path) as archive:
        if checksums:
            zips.check_members(archive)
        info = _pex_info(archive)
        distributions = _applicable(_distributions(archive, info))
        stamp = _stamp(info)
        own = _own(distributions, stamp)
        for distribution in distributions.values():
            refuse_reserved_modules(distribution)
        _refuse_reserved("it", top_level_modules(source_files(archive)))
    kind: Literal["base", "model"] = "model" if own.endpoints else "base"
    constraints = tuple(info.interpreter_constraints)
    return PexFile(path, kind, own.name, str(own.version), distributions, constraints, stamp, path.stat().st_size)


def read_stamp(path: Path) -> Stamp | None:
    """Returns only the stamp, or None if there is none. For a base this takes a third of the time of `read_pex`.

    Raises:
        PexRefused: The file cannot be read or is not a pex.
    """
    with zips.open_archive(path) as archive:
        return _stamp(_pex_info(archive))


def _pex_info(archive: zipfile.ZipFile) -> _PexInfo:
    if not zips.has_member(archive, "PEX-INFO"):
        raise PexRefused("it has no PEX-INFO, so it is not a pex")
    try:
        return msgspec.json.decode(zips.read_member(archive, "PEX-INFO", _PEX_INFO_MAX_BYTES), type=_PexInfo)
    except msgspec.MsgspecError as exc:
        raise PexRefused(f"its PEX-INFO is invalid: {exc}") from exc


def _stamp(info: _PexInfo) -> Stamp | None:
    raw = info.build_properties.get(STAMP_PROPERTY)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Stamp)
    except msgspec.MsgspecError as exc:
        raise PexRefused(f"its stamp is invalid: {exc}") from exc


def _distributions(archive: zipfile.ZipFile, info: _PexInfo) -> Iterator[Distribution]:
    """Yields every distribution that PEX-INFO lists; pex installs nothing else."""
    folders = {} if info.deps_are_wheel_files else zips.list_folders(archive, ".deps")
    for wheel in info.distributions:
        if wheel in folders:
            read = zips.member_reader(archive, f".deps/{wheel}/")
            yield parse_distribution(wheel, folders[wheel].files, read, size_bytes=folders[wheel].size_bytes)
        elif info.deps_are_wheel_files and zips.has_member(archive, f".deps/{wheel}"):
            yield _wheel_file(archive, wheel)
        else:
            raise PexRefused(f"PEX-INFO lists {wheel}, which is missing")


def _wheel_file(archive: zipfile.ZipFile, wheel: str) -> Distribution:
    """Returns a distribution of a pex that was built with --no-pre-install-wheels, and so contains whole wheel files."""
    with zips.open_nested_archive(archive, f".deps/{wheel}") as inner:
        size = archive.getinfo(f".deps/{wheel}").compress_size
        return parse_distribution(wheel, inner.namelist(), zips.member_reader(inner), size_bytes=size)


def _applicable(found: Iterable[Distribution]) -> dict[str, Distribution]:
    """Returns the distributions by name. If a pex has wheels of a distribution for several platforms, the one for this platform counts."""
    here = frozenset(sys_tags())
    chosen: dict[str, Distribution] = {}
    for distribution in found:
        if distribution.name not in chosen or distribution.tags & here:
            chosen[distribution.name] = distribution
    return chosen


def source_files(archive: zipfile.ZipFile) -> list[str]:
    """Returns the files outside of wheels that were added by `pex -D`, without pex's own files."""
    names = (member.filename for member in archive.infolist() if not member.is_dir())
    return [name for name in names if name.partition("/")[0] not in _PEX_OWN]


def _own(distributions: Mapping[str, Distribution], stamp: Stamp | None) -> Distribution:
    """Returns the distribution that the pex was built for: the one with endpoints, or the SDK in a base."""
    models = sorted(name for name, distribution in distributions.items() if distribution.endpoints)
    if len(models) > 1:
        raise PexRefused(f"{' and '.join(models)} both declare entry points of the group {ENDPOINT_GROUP!r}; build a pex for each")
    if models:
        if stamp is not None and (stamp.kind, stamp.name) != ("model", models[0]):
            raise PexRefused(f"its stamp says {stamp.kind} {stamp.name}, but it contains the model {models[0]}")
        return distributions[models[0]]
    if SDK in distributions and (stamp is None or stamp.kind == "base"):
        return distributions[SDK]
    raise PexRefused(
        f"no distribution in it declares an entry point of the group {ENDPOINT_GROUP!r}, so it serves nothing; add to pyproject.toml: "
        f'[project.entry-points."{ENDPOINT_GROUP}"] predict = "module:endpoint"'
    )


def refuse_reserved_modules(distribution: Distribution) -> None:
    """Refuses a distribution, other than the SDK itself, whose modules would hide ours.

    Raises:
        PexRefused: It contains a top-level module `base` or `runtime`.
    """
    if distribution.name != SDK:
        _refuse_reserved(distribution.name, distribution.modules)


def _refuse_reserved(who: str, modules: frozenset[str]) -> None:
    if clash := modules & _RESERVED_MODULES:
        names = " and ".join(repr(module) for module in sorted(clash))
        raise PexRefused(f"{who} contains a top-level module {names}, which would hide Pexdock's own; rename it")
