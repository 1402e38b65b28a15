"""The wheel of a project, and what a wheel file says of itself."""

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
    """The project's pyproject.toml.

    Raises:
        BuildFailed: there is none, or it is not understood.
    """
    try:
        with (project / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as exc:
        raise BuildFailed(f"{project} has no pyproject.toml, so it is no Python project") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BuildFailed(f"{project / 'pyproject.toml'} is not understood: {exc}") from exc


def build_wheel(project: Path, folder: Path) -> Path:
    """Build the project's wheel into an empty folder, by the backend that its pyproject.toml names.

    Raises:
        BuildFailed: the backend failed.
    """
    backend = read_pyproject(project).get("build-system", {}).get("build-backend", "setuptools.build_meta")
    # With the backend at hand, pip need not ask an index for it.
    isolation = ["--no-build-isolation"] if importlib.util.find_spec(backend.partition(".")[0]) else []
    tool.run_tool([*tool.pip(), "wheel", "--no-deps", *isolation, "-w", folder, project.resolve()], f"building the wheel of {project}")
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildFailed(f"{project} made {len(wheels)} wheels, where one is wanted")
    return wheels[0]


def read_wheel(wheel: Path) -> Distribution:
    """What a wheel file says of itself.

    Raises:
        PexRefused: it is not understood.
    """
    with zips.open_archive(wheel) as archive:
        size = sum(member.compress_size for member in archive.infolist())
        return parse_distribution(wheel.name, archive.namelist(), zips.member_reader(archive), size_bytes=size)


def read_wheels(wheels: list[Path]) -> dict[str, Distribution]:
    """`read_wheel` of each, by name.

    Raises:
        BuildFailed: one is not understood.
    """
    try:
        return {found.name: found for found in map(read_wheel, wheels)}
    except PexRefused as exc:
        raise BuildFailed(exc.detail) from exc
