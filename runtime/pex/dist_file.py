"""How a file gets into dist/: written beside, whole on the disk, then renamed. Blocks; what is given up leaves nothing."""

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
_ASIDE = re.compile(r"\..+\.[0-9a-f]{16}\.drop")


def check_file_name(name: str) -> None:
    """A name that means the same to every shell, file system and person, and that the supervisor looks at.

    Raises:
        PexRefused: it is another one.
    """
    if not _NAME.fullmatch(name) or not name.endswith((SUFFIX, SIGNATURE_SUFFIX)):
        ends = f"{SUFFIX} or {SIGNATURE_SUFFIX}"
        raise PexRefused(
            f"{name!r} is no name for a pex: letters, digits and . _ + - only, {NAME_MAX_CHARS} at most, with {ends} at the end"
        )


class DistFileWriter:
    """One file on its way into a folder, under a name that nobody looks at. Its lock says that somebody still writes it."""

    def __init__(self, folder: Path, name: str, file: BinaryIO) -> None:
        self.temporary_path = Path(file.name)
        self.size_bytes = 0
        self._folder = folder
        self._name = name
        self._file = file
        self._digest = hashlib.sha256()

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> None:
        """Append.

        Raises:
            OSError: the disk is full, or broken.
        """
        self._file.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)

    def flush_to_path(self) -> Path:
        """The file beside, with all that was written so far, for whoever wants to read it."""
        self._file.flush()
        return self.temporary_path

    def publish(self) -> Path:
        """Be there, at once and whole, also after a power failure; what had this name before is gone.

        Raises:
            OSError: nothing was changed.
        """
        self._file.flush()
        os.fsync(self._file.fileno())
        target = self._folder / self._name
        self.temporary_path.replace(target)
        sync_path(self._folder)
        return target


@contextlib.contextmanager
def open_dist_file(folder: Path, name: str) -> Iterator[DistFileWriter]:
    """A drop that is given up at the end of the block, unless it has landed.

    Raises:
        PexRefused: the name is none for a pex.
        OSError: the folder cannot be written to.
    """
    check_file_name(name)
    aside = folder / f".{name}.{secrets.token_hex(8)}.drop"
    with aside.open("xb") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            yield DistFileWriter(folder, name, file)
        finally:
            aside.unlink(missing_ok=True)


def remove_abandoned_files(folder: Path) -> None:
    """Remove what drops left that were killed. Those that are being written are locked, and stay."""
    for path in folder.iterdir() if folder.is_dir() else []:
        if _ASIDE.fullmatch(path.name):
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
