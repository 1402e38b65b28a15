"""Hashes everything that a build depends on: two builds with the same fingerprint make the same file.

That of a model is taken twice: of its sources, which says whether anything must be built, and of the wheels that were packed, which is
part of the file. So the same model has the same digest, whatever tool its project is locked with.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sysconfig
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from base.ipc.control import WIRE_VERSION
from runtime.build.locks.find import Lock
from runtime.build.project import ModelOptions
from runtime.build.tool import BuildFailed
from runtime.build.wheel import project_name, read_pyproject
from runtime.pex.file import SDK

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules"})
_SKIPPED_AT_THE_TOP = frozenset({"build", "dist", "artifacts"})
"""Results of builds and runs; further down, folders of these names belong to packages."""

_SKIPPED_SUFFIXES = (".pyc", ".egg-info", ".pex", ".whl")


def base_fingerprint(project: Path) -> str:
    """Returns the fingerprint of a base: the SDK's sources, its pins in the lock, the tools, the interpreter."""
    files = [project / "README.md", project / "LICENSE", *_files(project / "base"), *_files(project / "runtime")]
    return _hash([_tools(), _building_parts(read_pyproject(project)), _main_pins(project / "poetry.lock"), _contents(files, project)])


def sources_fingerprint(project: Path, base_sha256: str, options: ModelOptions, lock: Lock | None) -> str:
    """Returns the fingerprint of what a model is built from, on the base with that digest.

    It includes the base's digest and not only its pins: the digest is part of the model's stamp, so another base makes another file.
    """
    folders = [folder for folder in (lock.folders() if lock else []) if not _is_sdk(folder)]
    return _hash(
        [
            _tools(),
            base_sha256,
            msgspec.to_builtins(options),
            _contents(_files(project), project),
            _digest(lock.file) if lock else "",
            [_contents(_files(folder), folder) for folder in folders],
            _git_version(project),
        ]
    )


def packed_fingerprint(wheels: Iterable[Path], base_sha256: str, options: ModelOptions) -> str:
    """Returns the fingerprint of what a model's pex contains."""
    # Not the digests of the wheels: some backends write the time of the build into the zip.
    contents = {}
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            contents[wheel.name] = sorted((name, hashlib.sha256(archive.read(name)).hexdigest()) for name in archive.namelist())
    return _hash([_tools(), base_sha256, options.carry, options.exclude, contents])


def _is_sdk(folder: Path) -> bool:
    """Returns whether a path dependency is the checkout of the SDK, of which only the base counts."""
    try:
        return project_name(folder) == SDK
    except BuildFailed:
        return False


def _git_version(project: Path) -> str:
    """Returns what a version that is taken from git depends on; empty for a project whose version is not, or has no repository."""
    if "version" not in read_pyproject(project).get("project", {}).get("dynamic", []):
        return ""
    command = ["git", "-C", str(project), "describe", "--always", "--tags", "--dirty"]
    try:
        return str(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    except OSError:
        return ""


def _hash(inputs: object) -> str:
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:32]


def _tools() -> dict[str, object]:
    """Returns everything besides the inputs: this recipe, the tools that shape the file, the interpreter and the platform."""
    recipe = Path(__file__).parent
    return {
        "recipe": _contents(_files(recipe), recipe),
        "versions": [f"{name} {importlib.metadata.version(name)}" for name in ("pex", "poetry-core") if _is_installed(name)],
        "interpreter": [platform.python_implementation(), *platform.python_version_tuple()[:2], sysconfig.get_platform()],
        "wire": WIRE_VERSION,
    }


def _is_installed(name: str) -> bool:
    return bool(list(importlib.metadata.distributions(name=name)))


def _building_parts(project: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the part of a pyproject.toml that affects the wheel, without development groups and the tables of linters and test tools."""
    poetry = {name: table for name, table in project.get("tool", {}).get("poetry", {}).items() if name != "group"}
    return {**{name: table for name, table in project.items() if name != "tool"}, "poetry": poetry}


def _main_pins(lock: Path) -> list[tuple[str, str, list[str]]]:
    """Returns the pins of the main group; a new linter is no reason to rebuild the base."""
    packages = tomllib.loads(lock.read_text())["package"] if lock.is_file() else []
    return [(p["name"], p["version"], sorted(f["hash"] for f in p["files"])) for p in packages if "main" in p.get("groups", ["main"])]


def _files(folder: Path) -> Iterator[Path]:
    """Yields every file that may affect a wheel. Hidden folders (.venv, .git, caches) do not; hidden files such as .gitignore do."""
    for parent, folders, names in os.walk(folder):
        skipped = _SKIPPED_FOLDERS | _SKIPPED_AT_THE_TOP if Path(parent) == folder else _SKIPPED_FOLDERS
        folders[:] = [name for name in folders if name not in skipped and not name.startswith(".") and not name.endswith(_SKIPPED_SUFFIXES)]
        yield from (Path(parent, name) for name in names if not name.endswith(_SKIPPED_SUFFIXES))


def _contents(files: Iterable[Path], root: Path) -> list[tuple[str, bool, str]]:
    """Returns the relative path, executable bit and digest of each file."""
    return sorted((str(path.relative_to(root)), os.access(path, os.X_OK), _digest(path)) for path in files if path.is_file())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
