"""Builds the wheel of a project in isolation, and reads the metadata of wheel files."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import stat
import tempfile
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from base.errors import PexRefused
from runtime.build import tool
from runtime.build.tool import BuildFailed
from runtime.pex import archive as zips
from runtime.pex.distribution import Distribution, parse_distribution

_INSTALLED_BUILDER = "poetry-core"
"""The backend that comes with Pexdock's own tools; a project that accepts the installed version is built without an index."""

_SETUPTOOLS = "[build]\nbuild_base = {0}\n[egg_info]\negg_base = {0}\n"
"""Keeps setuptools from writing into the project, and from packing what an earlier build left in its folder build/."""

_REQUIRES = re.compile(r"^Requires-Dist:(.*@.*)$", re.MULTILINE)


def read_pyproject(project: Path) -> dict[str, Any]:
    """Returns the project's pyproject.toml; empty for an older project that has only a setup.py or setup.cfg.

    Raises:
        BuildFailed: It is missing or invalid.
    """
    try:
        with (project / "pyproject.toml").open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as exc:
        if any((project / name).is_file() for name in ("setup.py", "setup.cfg")):
            return {}
        raise BuildFailed(f"{project} has no pyproject.toml, so it is not a Python project") from exc
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise BuildFailed(f"{project / 'pyproject.toml'} is invalid: {exc}") from exc


def project_name(project: Path) -> str:
    """Returns the name of a project as its pyproject.toml spells it; empty if that has none.

    Raises:
        BuildFailed: The file is missing or invalid.
    """
    found = read_pyproject(project)
    return str(found.get("project", {}).get("name") or found.get("tool", {}).get("poetry", {}).get("name") or "")


def build_wheel(project: Path, folder: Path) -> Path:
    """Builds the project's wheel into an empty folder, with the backend that its pyproject.toml names, in an environment of its own.

    Raises:
        BuildFailed: The backend failed.
    """
    with tempfile.TemporaryDirectory(prefix="pexdock-build-") as scratch:
        settings = Path(scratch, "setuptools.cfg")
        settings.write_text(_SETUPTOOLS.format(scratch))
        isolation = ["--no-build-isolation"] if _accepts_installed_builder(project) else []
        command: list[str | Path] = [*tool.pip(), "wheel", "--no-deps", *isolation, "-w", folder, project.resolve()]
        tool.run_tool(command, f"building the wheel of {project}", variables={"DIST_EXTRA_CONFIG": str(settings)})
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise BuildFailed(f"building {project} made {len(wheels)} wheels instead of one")
    normalize_wheel(wheels[0])
    return wheels[0]


def _accepts_installed_builder(project: Path) -> bool:
    """Returns whether the project needs nothing to be built but the backend that is installed here, in a version that it accepts."""
    try:
        version = importlib.metadata.version(_INSTALLED_BUILDER)
        required = [Requirement(text) for text in read_pyproject(project).get("build-system", {}).get("requires", [])]
    except (importlib.metadata.PackageNotFoundError, InvalidRequirement):
        return False
    return bool(required) and all(
        canonicalize_name(each.name) == _INSTALLED_BUILDER and each.url is None and version in each.specifier for each in required
    )


def normalize_wheel(wheel: Path) -> None:
    """Rewrites a wheel that was built here, so that it depends neither on the time of the build nor on the umask and the file system."""
    with zipfile.ZipFile(wheel) as archive:
        members = {member.filename: (_is_executable(member), archive.read(member)) for member in archive.infolist() if not member.is_dir()}
    _write_wheel(wheel, members)


def without_links(wheel: Path, folder: Path) -> Path:
    """Returns a copy of a wheel without addresses in its requirements, such as `helper @ file:///srv/helper`; itself if it has none.

    They would bind the wheel to this machine, and its digest to the folder in which it was built. The lock decides what is taken instead.
    """
    with zipfile.ZipFile(wheel) as archive:
        (metadata,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
        head, separator, body = archive.read(metadata).decode().replace("\r\n", "\n").partition("\n\n")
        plain = _REQUIRES.sub(lambda match: f"Requires-Dist: {_without_link(match[1])}", head)
        if plain == head:
            return wheel
        members = {member.filename: (_is_executable(member), archive.read(member)) for member in archive.infolist() if not member.is_dir()}
    content = f"{plain}{separator}{body}".encode()
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    record = metadata.replace("METADATA", "RECORD")
    entry = f"{metadata},sha256={digest},{len(content)}"
    listed = re.sub(rf"^{re.escape(metadata)},.*$", entry, members[record][1].decode(), flags=re.MULTILINE)
    folder.mkdir(exist_ok=True)
    _write_wheel(folder / wheel.name, members | {metadata: (False, content), record: (False, listed.encode())})
    return folder / wheel.name


def _is_executable(member: zipfile.ZipInfo) -> bool:
    return bool(member.external_attr >> 16 & stat.S_IXUSR)


def _write_wheel(path: Path, members: Mapping[str, tuple[bool, bytes]]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (executable, content) in sorted(members.items()):
            info = zipfile.ZipInfo(name)  # of 1980, the first year that a zip knows
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (stat.S_IFREG | (0o755 if executable else 0o644)) << 16
            archive.writestr(info, content)


def _without_link(text: str) -> str:
    requirement = Requirement(text.strip())
    requirement.url = None
    return str(requirement)


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
