"""Builds the wheel of a project, and reads the metadata of wheel files."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

from base.errors import PexRefused
from runtime.build import tool
from runtime.build.tool import BuildFailed
from runtime.pex import archive as zips
from runtime.pex.distribution import Distribution, parse_distribution


def read_pyproject(project: Path) -> dict[str, Any]:
    """Returns the project's pyproject.toml.

    Raises:
        BuildFailed: It is missing or invalid.
    """
    try:
        with (project / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as exc:
        raise BuildFailed(f"{project} has no pyproject.toml, so it is not a Python project") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BuildFailed(f"{project / 'pyproject.toml'} is invalid: {exc}") from exc


def build_wheel(project: Path, folder: Path) -> Path:
    """Builds the project's wheel into an empty folder, with the backend that its pyproject.toml names.

    Raises:
        BuildFailed: The backend failed.
    """
    backend = read_pyproject(project).get("build-system", {}).get("build-backend", "setuptools.build_meta")
    # If the backend is installed, pip need not download it.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec(backend.partition(".")[0]) else []
    tool.run_tool([*tool.pip(), "wheel", "--no-deps", *isolation, "-w", folder, project.resolve()], f"building the wheel of {project}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildFailed(f"building {project} made {len(wheels)} wheels instead of one")
    return wheels[0]


def read_wheel(wheel: Path) -> Distribution:
    """Reads the metadata of a wheel file.

    Raises:
        PexRefused: It is invalid.
    """
    with zips.open_archive(wheel) as archive:
        size = sum(member.compress_size for member in archive.infolist())
        return parse_distribution(wheel.name, archive.namelist(), zips.member_reader(archive), size_bytes=size)


def read_wheels(wheels: list[Path]) -> dict[str, Distribution]:
    """Reads the metadata of wheel files, and returns it by name.

    Raises:
        BuildFailed: A wheel is invalid.
    """
    try:
        return {found.name: found for found in map(read_wheel, wheels)}
    except PexRefused as exc:
        raise BuildFailed(exc.detail) from exc
