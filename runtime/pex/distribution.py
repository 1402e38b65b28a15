"""One distribution as its metadata files tell of it: name, version, requirements, entry points, tags, top-level modules.

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
"""The longest METADATA known holds a README of some 100 kB."""

_ENTRY_POINTS_MAX_BYTES = 1024 * 1024
_MODULE = re.compile(r"[A-Za-z_]\w*")
_EXTENSION_SUFFIXES = (".py", ".pyc", ".so", ".pyd")

ReadMember = Callable[[str, int], bytes]
"""`read(name, max_bytes)`: one file's content, or PexRefused where it is longer."""


@dataclass(frozen=True)
class Distribution:
    """One distribution.

    `wheel` is the file name of the wheel that it came as, `name` is canonical (`scikit-learn`), `size_bytes` is what its files take where
    they were found.
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
    """The distribution that was unpacked from the wheel file named `wheel`.

    Args:
        wheel: the wheel's file name; its tags are trusted, its name and version are not.
        files: paths of its files, relative to the wheel's root.
        read: gives the content of one of them.
        size_bytes: handed on.

    Raises:
        PexRefused: a metadata file is missing, too long or not understood.
    """
    names = list(files)
    folder = _dist_info(wheel, names)
    name, version, requires = _metadata(wheel, read(f"{folder}/METADATA", METADATA_MAX_BYTES))
    listing = f"{folder}/entry_points.txt"
    endpoints = _endpoints(wheel, read(listing, _ENTRY_POINTS_MAX_BYTES)) if listing in names else {}
    return Distribution(wheel, name, version, requires, endpoints, wheel_tags(wheel), top_level_modules(names), size_bytes)


def wheel_tags(wheel: str) -> frozenset[Tag]:
    """The tags in a wheel's file name."""
    try:
        return parse_wheel_filename(wheel)[3]
    except (InvalidWheelFilename, InvalidVersion) as exc:
        raise PexRefused(f"{wheel} is no wheel file name: {exc}") from exc


def _dist_info(wheel: str, names: list[str]) -> str:
    folders = {name.partition("/")[0] for name in names if re.fullmatch(r"[^/]+\.dist-info/METADATA", name)}
    if len(folders) != 1:
        raise PexRefused(f"{wheel} holds {len(folders)} .dist-info folders with METADATA, where one belongs")
    return folders.pop()


def _metadata(wheel: str, content: bytes) -> tuple[str, Version, tuple[Requirement, ...]]:
    headers = HeaderParser().parsestr(content.decode("utf-8", "replace"))
    try:
        requires = tuple(Requirement(line) for line in headers.get_all("Requires-Dist") or [])
        return str(canonicalize_name(headers["Name"] or "", validate=True)), Version(headers["Version"] or ""), requires
    except (InvalidRequirement, ValueError) as exc:
        raise PexRefused(f"the METADATA of {wheel} is not understood: {exc}") from exc


def _endpoints(wheel: str, content: bytes) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names of endpoints keep their case
    try:
        parser.read_string(content.decode())
    except (configparser.Error, UnicodeDecodeError) as exc:
        raise PexRefused(f"the entry points of {wheel} are not understood: {exc}") from exc
    return dict(parser[ENDPOINT_GROUP]) if ENDPOINT_GROUP in parser else {}


def top_level_modules(names: Iterable[str]) -> frozenset[str]:
    """Top-level packages and modules among paths of files. RECORD and top_level.txt are not asked: they may say anything."""
    found = set()
    for name in names:
        head, slash, _ = name.partition("/")
        if not slash and not head.endswith(_EXTENSION_SUFFIXES):
            continue
        head = head if slash else head.partition(".")[0]
        if _MODULE.fullmatch(head):
            found.add(head)
    return frozenset(found)
