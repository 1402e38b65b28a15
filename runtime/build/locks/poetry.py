"""Reads poetry.lock, by way of Poetry itself: only it knows whether the lock still matches pyproject.toml."""

from __future__ import annotations

import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path

from runtime.build import tool
from runtime.build.locks.pin import Pin
from runtime.build.locks.requirements import read_requirements


def read_poetry(lock: Path, *, all_groups: bool = True) -> Iterator[Pin]:
    """Yields the pins of a poetry.lock for this interpreter and machine.

    Args:
        lock: The file.
        all_groups: Include optional and development groups.

    Raises:
        BuildFailed: It does not match pyproject.toml.
    """
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as folder:
        exported = Path(folder, "requirements.txt")
        command: list[str | Path] = [*tool.poetry(), "export", "--with-credentials", "--format", "requirements.txt", "--output", exported]
        tool.run_tool([*command, *(["--all-groups"] if all_groups else [])], f"reading {lock}", cwd=lock.parent)
        yield from read_requirements(exported)


def poetry_folders(lock: Path) -> Iterator[Path]:
    """Yields the folders of path dependencies, which Poetry itself would take a second to tell."""
    for package in tomllib.loads(lock.read_text())["package"]:
        if package.get("source", {}).get("type") == "directory":
            yield (lock.parent / package["source"]["url"]).resolve()
