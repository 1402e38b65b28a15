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


class PublishedFile:
    """A file that was just put into a folder, which can be taken back until this is closed.

    Args:
        path: The file.
        previous: The file that it has replaced, under a temporary name; None if there was none.
    """

    def __init__(self, path: Path, previous: Path | None) -> None:
        self._path = path
        self._previous = previous
        self._stat = path.stat()

    def withdraw(self) -> bool:
        """Restores the folder as it was before. Returns False if somebody has changed or removed the file since.

        Raises:
            OSError: The folder cannot be changed.
        """
        try:
            if not os.path.samestat(self._path.stat(), self._stat):
                return False
        except FileNotFoundError:
            return False
        if self._previous is None:
            self._path.unlink()
        else:
            self._previous.replace(self._path)
        sync_path(self._path.parent)
        return True

    def close(self) -> None:
        """Forgets the file that was replaced. Idempotent."""
        if self._previous is not None:
            with contextlib.suppress(OSError):
                self._previous.unlink(missing_ok=True)


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

    def publish(self, *, keep_previous: bool = False) -> PublishedFile:
        """Renames the file to its final name, atomically and durably. It replaces any file of that name.

        Args:
            keep_previous: Keeps the replaced file under a temporary name, so that it can be restored. The caller must close the result.

        Raises:
            OSError: The file cannot be renamed; nothing was changed.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        target, previous = self._folder / self._name, None
        if keep_previous and target.exists():
            previous = self._folder / f".{self._name}.{secrets.token_hex(8)}.drop"
            os.link(target, previous)
        self.temporary_path.replace(target)
        sync_path(self._folder)
        return PublishedFile(target, previous)


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
        _match_folder(file.fileno(), folder, executable=name.endswith(SUFFIX))
        try:
            yield DistFileWriter(folder, name, file)
        finally:
            temporary.unlink(missing_ok=True)


def _match_folder(descriptor: int, folder: Path, *, executable: bool) -> None:
    """Lets those read, and execute, the file who can read the folder, whatever the umask of this process. As root, also sets its owner.

    Otherwise the supervisor, which may be another user, could not read what root has deployed.
    """
    found = folder.stat()
    readable = 0o755 if executable else 0o644
    os.fchmod(descriptor, readable & (0o700 | found.st_mode))
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):  # some file systems have no owners
            os.fchown(descriptor, found.st_uid, found.st_gid)


def remove_abandoned_files(folder: Path) -> None:
    """Removes the files of writers that were killed. Files that are being written are locked, and stay."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if _TEMPORARY.fullmatch(path.name):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
