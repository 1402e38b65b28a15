"""Fetches the wheels that a lock pins."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

from runtime.build import tool
from runtime.build.build_cache import prune_to_newest, temporary_folder
from runtime.build.locks.pin import Pin
from runtime.build.wheel import build_wheel, normalize_wheel
from runtime.pex.locks import Report

_KEPT_FOLDERS = 6
"""Number of sets of fetched wheels to keep. That of a base takes about 200 MB."""

_FOLDER = "[0-9a-f]" * 16
_REPORT_EVERY_S = 5.0


def fetch_wheels(pins: Iterable[Pin], cache: Path, scratch: Path, report: Report) -> list[Path]:
    """Returns the wheels of the pins: of an index or an archive, with the hash of each verified; of a commit; or of a folder.

    All but those of folders stay in the cache, so that the next build needs no index.

    Args:
        pins: What to fetch.
        cache: The cache folder.
        scratch: A temporary folder, in which the wheels of folders are built.
        report: Called with lines of progress.

    Raises:
        BuildFailed: A wheel is not available, its hash is not in the lock, or it cannot be built.
    """
    folders: list[Pin] = []
    commits: list[Pin] = []
    hashed: list[Pin] = []
    for pin in sorted(pins):
        (hashed if pin.hashes else folders if pin.folder else commits).append(pin)
    wheels = [build_wheel(pin.folder, scratch / pin.name) for pin in folders if pin.folder]
    for group, options in ((hashed, ["--require-hashes"]), (commits, [])):
        if group:
            wheels += _cached(group, options, cache, report)
    return wheels


def _cached(pins: list[Pin], options: list[str], cache: Path, report: Report) -> list[Path]:
    """Returns the wheels from the folder of the cache that holds exactly these, after making it if needed."""
    places = sorted({option for pin in pins for option in pin.options})
    text = "\n".join([*places, *(pin.line for pin in pins)]) + "\n"
    folder = cache / "wheels" / hashlib.sha256(text.encode()).hexdigest()[:16]
    if not folder.is_dir():
        with temporary_folder(folder.parent) as place:
            _fetch(text, len(pins), options, place, report)
            accepted = {value for pin in pins for value in pin.hashes}
            for wheel in (place / "wheels").glob("*.whl"):
                if f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}" not in accepted:
                    normalize_wheel(wheel)  # built here, of sources
            _publish(place / "wheels", folder)
    os.utime(folder)
    prune_to_newest(folder.parent, _FOLDER, _KEPT_FOLDERS)
    return sorted(folder.glob("*.whl"))


def _fetch(text: str, count: int, options: list[str], place: Path, report: Report) -> None:
    requirements = place / "requirements.txt"
    requirements.touch(mode=0o600)  # addresses of indexes may hold passwords
    requirements.write_text(text)
    seen, last = 0, time.monotonic()

    def each_line(line: str) -> None:
        nonlocal seen, last
        seen += line.startswith("Collecting ")
        if time.monotonic() - last > _REPORT_EVERY_S:
            last = time.monotonic()
            report(f"{seen} of {count}")

    # `pip wheel` takes the wheel of an index as it is, and builds one where there are only sources.
    command: list[str | Path] = [
        *tool.pip(),
        "wheel",
        *options,
        "--no-deps",
        "--progress-bar",
        "off",
        "-r",
        requirements,
        "-w",
        place / "wheels",
    ]
    tool.run_tool(command, "fetching wheels with pip", each_line=each_line)


def _publish(made: Path, folder: Path) -> None:
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another build fetched the same wheels, and renamed its folder between this build's check and rename.
