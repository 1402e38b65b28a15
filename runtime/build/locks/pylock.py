"""Reads pylock.toml, the form of a lock that PEP 751 defines."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from packaging.pylock import (
    Package,
    PackageArchive,
    PackageDirectory,
    PackageSdist,
    PackageVcs,
    PackageWheel,
    Pylock,
    PylockSelectError,
    PylockValidationError,
)
from packaging.utils import parse_sdist_filename, parse_wheel_filename

from runtime.build.locks.pin import Pin, git_link
from runtime.build.tool import BuildFailed


def read_pylock(lock: Path) -> Iterator[Pin]:
    """Yields the pins of a pylock.toml that apply to this interpreter and machine, those of all groups and extras.

    Raises:
        BuildFailed: It is invalid, or not for this interpreter or machine.
    """
    try:
        found = Pylock.from_dict(tomllib.loads(lock.read_text()))
        groups = [*(found.dependency_groups or []), *(found.default_groups or [])]
        chosen = list(found.select(extras=found.extras, dependency_groups=groups))
    except (PylockValidationError, PylockSelectError) as exc:
        raise BuildFailed(f"{lock} cannot be used here: {exc}; lock again for Python and the platform of this machine") from exc
    for package, artifact in chosen:
        yield _pin(package, artifact, lock.parent)


def _pin(package: Package, artifact: object, root: Path) -> Pin:
    name, version = str(package.name), str(package.version or "")
    match artifact:
        case PackageVcs():
            return Pin(name, version, link=git_link(_address(artifact, root), artifact.commit_id, artifact.subdirectory))
        case PackageDirectory():
            return Pin(name, version, link=(root / artifact.path / (artifact.subdirectory or "")).resolve().as_uri())
        case PackageArchive():
            subdirectory = f"#subdirectory={artifact.subdirectory}" if artifact.subdirectory else ""
            return Pin(name, version, _hashes(artifact), _address(artifact, root) + subdirectory)
        case PackageWheel() | PackageSdist():
            # pip looks in the indexes that it is configured with, too: a machine may reach a mirror alone.
            where = f"--extra-index-url {package.index}" if package.index else f"--find-links {_address(artifact, root)}"
            files: list[PackageWheel | PackageSdist] = [*(package.wheels or []), *([package.sdist] if package.sdist else [])]
            hashes = {value for file in files for value in _hashes(file)}
            return Pin(name, version or _file_version(artifact.filename), tuple(sorted(hashes)), options=(where,))
    raise AssertionError(artifact)


def _address(artifact: PackageVcs | PackageArchive | PackageWheel | PackageSdist, root: Path) -> str:
    return artifact.url or (root / (artifact.path or "")).resolve().as_uri()


def _hashes(artifact: PackageArchive | PackageWheel | PackageSdist) -> tuple[str, ...]:
    return tuple(sorted(f"{algorithm}:{digest}" for algorithm, digest in artifact.hashes.items()))


def _file_version(file: str) -> str:
    return str(parse_wheel_filename(file)[1] if file.endswith(".whl") else parse_sdist_filename(file)[1])
