"""Opens, checks and reads untrusted zip files within limits. Every fault raises a PexRefused that names it."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from base.errors import PexRefused
from runtime.pex.distribution import ReadMember

# A limit against zip bombs: the largest known wheels unpack to about 5 GB.
_UNPACKED_MAX_BYTES = 32 * 1024**3
_READ_BYTES = 1024 * 1024
# The exceptions of zipfile for files that are damaged, encrypted or compressed by a method that Python does not support.
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, struct.error, RuntimeError, ValueError)


@dataclass
class ArchiveFolder:
    """The files below one folder of a zip: their paths relative to the folder, and their compressed size."""

    files: list[str] = field(default_factory=list)
    size_bytes: int = 0


@contextmanager
def open_archive(path: Path) -> Iterator[zipfile.ZipFile]:
    """Opens the zip at `path` until the end of the block. A PexRefused that is raised in the block names the file."""
    with prefix_file_name(path), ExitStack() as stack:
        with _refuse_unreadable("it cannot be read"):
            if not stat.S_ISREG(path.stat().st_mode):  # opening a named pipe would wait for a writer
                raise PexRefused("it is not a regular file")
            file = stack.enter_context(path.open("rb"))
            _refuse_other_files(file)
            archive = stack.enter_context(zipfile.ZipFile(file))
        yield archive


@contextmanager
def prefix_file_name(path: Path) -> Iterator[None]:
    """Puts the file's name in front of the message of a PexRefused that is raised in the block."""
    try:
        yield
    except PexRefused as exc:
        raise PexRefused(f"{path.name}: {exc.detail}") from exc


@contextmanager
def _refuse_unreadable(what: str) -> Iterator[None]:
    try:
        yield
    except _UNREADABLE as exc:
        raise PexRefused(f"{what}: {str(exc) or type(exc).__name__}") from exc


def _refuse_other_files(file: IO[bytes]) -> None:
    """Raises PexRefused for faults that zipfile reports with one and the same message."""
    head = file.read(4096)
    if not head:
        raise PexRefused("the file is empty")
    if not zipfile.is_zipfile(file):
        cut = b"PK\x03\x04" in head
        raise PexRefused(
            "the zip is truncated: its directory, at the end, is missing" if cut else "it is not a zip file, so it cannot be a pex"
        )


def check_members(archive: zipfile.ZipFile) -> None:
    """Reads every member and compares its CRC.

    Raises:
        PexRefused: A member is damaged, or the zip unpacks to too many bytes.
    """
    members = archive.infolist()
    if sum(member.file_size for member in members) > _UNPACKED_MAX_BYTES:
        raise PexRefused(f"it unpacks to more than {_UNPACKED_MAX_BYTES} bytes")
    for member in members:
        with _refuse_unreadable(f"{member.filename} is damaged"), archive.open(member) as content:
            while content.read(_READ_BYTES):
                pass


def has_member(archive: zipfile.ZipFile, name: str) -> bool:
    """Returns whether a member of that name exists."""
    return name in archive.NameToInfo


def read_member(archive: zipfile.ZipFile, name: str, max_bytes: int) -> bytes:
    """Returns the content of one member.

    Raises:
        PexRefused: The member is damaged, or longer than `max_bytes`.
    """
    with _refuse_unreadable(f"{name} is damaged"), archive.open(name) as content:
        data = content.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise PexRefused(f"{name} is larger than {max_bytes} bytes")
    return data


def member_reader(archive: zipfile.ZipFile, folder: str = "") -> ReadMember:
    """Returns a `read_member` for paths relative to `folder`, which ends with a slash or is empty."""
    return lambda name, max_bytes: read_member(archive, folder + name, max_bytes)


def list_folders(archive: zipfile.ZipFile, parent: str) -> dict[str, ArchiveFolder]:
    """Returns the folders directly below `parent`, by name."""
    found: dict[str, ArchiveFolder] = defaultdict(ArchiveFolder)
    for member in archive.infolist():
        head, _, inner = member.filename.removeprefix(f"{parent}/").partition("/")
        if member.filename.startswith(f"{parent}/") and inner:
            found[head].files.append(inner)
            found[head].size_bytes += member.compress_size
    return found


@contextmanager
def open_nested_archive(archive: zipfile.ZipFile, name: str) -> Iterator[zipfile.ZipFile]:
    """Opens a zip that is a member of a zip, until the end of the block."""
    with _refuse_unreadable(f"{name} is damaged"):
        file = archive.open(name)
        inner = zipfile.ZipFile(file)
    with file, inner:
        yield inner
