"""Reads the pins of a poetry.lock, and downloads their wheels."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runtime.build import tool
from runtime.build.build_cache import prune_to_newest, temporary_folder
from runtime.build.tool import BuildFailed
from runtime.pex.locks import Report

_KEPT_FOLDERS = 6
"""Number of sets of downloaded wheels to keep. That of a base takes about 200 MB."""

_FOLDER = "[0-9a-f]" * 16
_REPORT_EVERY_S = 5.0


@dataclass(frozen=True, order=True)
class Pin:
    """One distribution that a lock pins. `hashes` are in the form that pip accepts (`sha256:...`)."""

    name: str
    version: str
    hashes: tuple[str, ...]


def export_pins(project: Path, *, all_groups: bool = False) -> dict[str, Pin]:
    """Returns the pins of the project's lock for this interpreter and machine, by name.

    Args:
        project: The folder of pyproject.toml and poetry.lock.
        all_groups: Include development groups.

    Raises:
        BuildFailed: There is no lock, or it does not match pyproject.toml.
    """
    if not (project / "poetry.lock").is_file():
        raise BuildFailed(f"{project} has no poetry.lock; run `poetry lock` there")
    command = [*tool.poetry(), "export", "--format", "requirements.txt", *(["--all-groups"] if all_groups else [])]
    text = tool.run_tool(command, f"reading {project / 'poetry.lock'}", cwd=project)
    return {pin.name: pin for pin in parse_pins(text)}


def parse_pins(text: str) -> Iterator[Pin]:
    """Yields the pinned versions of a requirements.txt whose markers hold. Paths, such as pexdock's own, are not pins."""
    for line in text.replace("\\\n", " ").splitlines():
        specifier, _, _ = line.partition(" --hash=")
        if not specifier.strip() or specifier.startswith(("#", "-")) or " @ " in specifier:
            continue
        requirement = Requirement(specifier)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            hashes = tuple(sorted(word.removeprefix("--hash=") for word in line.split() if word.startswith("--hash=")))
            yield Pin(str(canonicalize_name(requirement.name)), str(requirement.specifier).removeprefix("=="), hashes)


def download_wheels(pins: Iterable[Pin], cache: Path, report: Report) -> list[Path]:
    """Downloads the wheels of the pins, and verifies the hash of each.

    They stay in the cache in a folder for exactly these pins, so that the next build needs no index.

    Raises:
        BuildFailed: A wheel is not available, or its hash is not in the lock.
    """
    lines = [" ".join([f"{pin.name}=={pin.version}", *(f"--hash={value}" for value in pin.hashes)]) for pin in sorted(pins)]
    text = "\n".join(lines) + "\n"
    folder = cache / "wheels" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.is_dir():
        with temporary_folder(folder.parent) as place:
            _download(text, len(lines), place, report)
            _publish(place / "wheels", folder)
    os.utime(folder)
    prune_to_newest(folder.parent, _FOLDER, _KEPT_FOLDERS)
    return sorted(folder.glob("*.whl"))


def _download(text: str, count: int, place: Path, report: Report) -> None:
    requirements = place / "requirements.txt"
    requirements.write_text(text)
    seen, last = 0, time.monotonic()

    def each_line(line: str) -> None:
        nonlocal seen, last
        seen += line.startswith("Collecting ")
        if time.monotonic() - last > _REPORT_EVERY_S:
            last = time.monotonic()
            report(f"{seen} of {count}")

    command = [*tool.pip(), "download", "--require-hashes", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off"]
    tool.run_tool([*command, "-r", requirements, "-d", place / "wheels"], "pip download", each_line=each_line)


def _publish(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another build downloaded the same wheels, and renamed its folder between this build's check and rename.
