"""Writes a file to dist/ under a temporary name, flushes it to the disk, and renames it. Blocks. An aborted write leaves no file behind."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from base.errors import PexRefused
from runtime.atomic_file import sync_path
from runtime.pex.names import SUFFIX

SIGNATURE_SUFFIX = f"{SUFFIX}.sig"
SIGNATURE_MAX_BYTES = 64 * 1024
NAME_MAX_CHARS = 200
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._+-]{{0,{NAME_MAX_CHARS - 1}}}")
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.drop")


def check_file_name(name: str) -> None:
    """Checks that a file name is unambiguous for shells, file systems and people, and that the supervisor would use the file.

    Raises:
        PexRefused: The name is not valid.
    """
    if not _NAME.fullmatch(name) or not name.endswith((SUFFIX, SIGNATURE_SUFFIX)):
        ends = f"{SUFFIX} or {SIGNATURE_SUFFIX}"
        raise PexRefused(
            f"{name!r} is not a valid name for a pex: use letters, digits and . _ + -, at most {NAME_MAX_CHARS}, and end it with {ends}"
        )


class DistFileWriter:
    """A file that is being written to a folder under a temporary name. Its lock shows that the writer is alive.

    Attributes:
        temporary_path: Path of the file until `publish`.
        size_bytes: Number of bytes written so far.
    """

    def __init__(self, folder: Path, name: str, file: BinaryIO) -> None:
        self.temporary_path = Path(file.name)
        self.size_bytes = 0
        self._folder = folder
        self._name = name
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Digest of the bytes written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Appends data.

        Raises:
            OSError: The disk is full or broken.
        """
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def flush_to_path(self) -> Path:
        """Flushes all written data, and returns the path from which it can be read."""
        self._file.flush()
        return self.temporary_path

    def publish(self) -> Path:
        """Renames the file to its final name, atomically and durably. It replaces any file of that name.

        Raises:
            OSError: The file cannot be renamed; nothing was changed.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._folder / self._name
        self.temporary_path.replace(target)
        sync_path(self._folder)
        return target


@contextlib.contextmanager
def open_dist_file(folder: Path, name: str) -> Iterator[DistFileWriter]:
    """Yields a writer. The file is removed at the end of the block unless `publish` was called.

    Raises:
        PexRefused: The name is not valid for a pex.
        OSError: The folder cannot be written to.
    """
    check_file_name(name)
    temporary = folder / f".{name}.{secrets.token_hex(8)}.drop"
    with temporary.open("xb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield DistFileWriter(folder, name, file)
        finally:
            temporary.unlink(missing_ok=True)


def remove_abandoned_files(folder: Path) -> None:
    """Removes the files of writers that were killed. Files that are being written are locked, and stay."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
