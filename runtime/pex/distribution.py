"""Reads the metadata of one distribution: name, version, requirements, entry points, tags, top-level modules.

Pure: works on file names and their contents, and knows neither zip files nor folders.
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser

from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from base.errors import PexRefused

ENDPOINT_GROUP = "pexdock.endpoints"
METADATA_MAX_BYTES = 4 * 1024 * 1024
"""Limit of a metadata file. The longest known METADATA contains a README of about 100 kB."""

_ENTRY_POINTS_MAX_BYTES = 1024 * 1024
_MODULE = re.compile(r"[A-Za-z_]\w*")
_EXTENSION_SUFFIXES = (".py", ".pyc", ".so", ".pyd")

ReadMember = Callable[[str, int], bytes]
"""`read(name, max_bytes)` returns the content of one file, or raises PexRefused if it is longer."""


@dataclass(frozen=True)
class Distribution:
    """One distribution.

    Attributes:
        wheel: File name of its wheel.
        name: Canonical name, such as `scikit-learn`.
        version: Its version.
        requires: All its requirements.
        endpoints: Entry points of the group `pexdock.endpoints`.
        tags: Tags of the interpreters and platforms that it supports.
        modules: Top-level modules.
        size_bytes: Size of its files; in a zip, their compressed size.
    """

    wheel: str
    name: str
    version: Version
    requires: tuple[Requirement, ...]
    endpoints: Mapping[str, str]
    tags: frozenset[Tag]
    modules: frozenset[str]
    size_bytes: int = 0


def parse_distribution(wheel: str, files: Iterable[str], read: ReadMember, *, size_bytes: int = 0) -> Distribution:
    """Returns the distribution that was unpacked from the wheel file named `wheel`.

    Args:
        wheel: File name of the wheel; its tags are trusted, its name and version are not.
        files: Paths of its files, relative to the wheel's root.
        read: Returns the content of one file.
        size_bytes: Size of its files.

    Raises:
        PexRefused: A metadata file is missing, too long or invalid.
    """
    names = list(files)
    folder = _dist_info(wheel, names)
    name, version, requires = _metadata(wheel, read(f"{folder}/METADATA", METADATA_MAX_BYTES))
    listing = f"{folder}/entry_points.txt"
    endpoints = _endpoints(wheel, read(listing, _ENTRY_POINTS_MAX_BYTES)) if listing in names else {}
    return Distribution(wheel, name, version, requires, endpoints, wheel_tags(wheel), top_level_modules(names), size_bytes)


def wheel_tags(wheel: str) -> frozenset[Tag]:
    """Returns the tags in the file name of a wheel."""
    try:
        return parse_wheel_filename(wheel)[3]
    except (InvalidWheelFilename, InvalidVersion) as exc:
        raise PexRefused(f"{wheel} is not a valid wheel file name: {exc}") from exc


def _dist_info(wheel: str, names: list[str]) -> str:
    folders = {name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)}
    if len(folders) != 1:
        raise PexRefused(f"{wheel} contains {len(folders)} .dist-info folders with METADATA instead of one")
    return folders.pop()


def _metadata(wheel: str, content: bytes) -> tuple[str, Version, tuple[Requirement, ...]]:
    headers = HeaderParser().parsestr(content.decode("utf-8", "replace"))
    try:
        requires = tuple(Requirement(line) for line in headers.get_all("Requires-Dist") or [])
        return str(canonicalize_name(headers["Name"] or "", validate=True)), Version(headers["Version"] or ""), requires
    except (InvalidRequirement, ValueError) as exc:
        raise PexRefused(f"the METADATA of {wheel} is invalid: {exc}") from exc


def _endpoints(wheel: str, content: bytes) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of endpoints keep their case
    try:
        parser.read_string(content.decode())
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise PexRefused(f"the entry points of {wheel} are invalid: {exc}") from exc
    return dict(parser[ENDPOINT_GROUP]) if ENDPOINT_GROUP in parser else {}


def top_level_modules(names: Iterable[str]) -> frozenset[str]:
    """Returns the top-level packages and modules among paths of files. RECORD and top_level.txt are not used, since they may be wrong."""
    found = set()
    for name in names:
        head, slash, _ = name.partition("/")
        if not slash and not head.endswith(_EXTENSION_SUFFIXES):
            continue
        head = head if slash else head.partition(".")[0]
        if _MODULE.fullmatch(head):
            found.add(head)
    return frozenset(found)
