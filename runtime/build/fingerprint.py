"""Hashes everything that a build depends on: two builds with the same fingerprint make the same file."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sysconfig
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from base.ipc.control import WIRE_VERSION
from runtime.build.wheel import read_pyproject

_SKIPPED_FOLDERS = frozenset({"__pycache__", "build", "dist", "node_modules", "artifacts"})
_SKIPPED_SUFFIXES = (".pyc", ".egg-info", ".pex", ".whl")


def base_fingerprint(project: Path) -> str:
    """Returns the fingerprint of a base: the SDK's sources, its pins in the lock, the tools, the interpreter."""
    files = [project / "README.md", project / "LICENSE", *_files(project / "base"), *_files(project / "runtime")]
    return _hash([_tools(), _building_parts(read_pyproject(project)), _main_pins(project / "poetry.lock"), _contents(files, project)])


def model_fingerprint(project: Path, base_sha256: str, carry: Iterable[str]) -> str:
    """Returns the fingerprint of a model that is built on the base with that digest.

    It includes the base's digest and not only its pins: the digest is part of the model's stamp, so another base makes another file.
    """
    return _hash([_tools(), base_sha256, sorted(carry), _contents(_files(project), project)])


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
        folders[:] = [
            name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith(".") and not name.endswith(_SKIPPED_SUFFIXES)
        ]
        yield from (Path(parent, name) for name in names if not name.endswith(_SKIPPED_SUFFIXES))


def _contents(files: Iterable[Path], root: Path) -> list[tuple[str, bool, str]]:
    """Returns the relative path, executable bit and digest of each file."""
    return sorted((str(path.relative_to(root)), os.access(path, os.X_OK), _digest(path)) for path in files if path.is_file())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
