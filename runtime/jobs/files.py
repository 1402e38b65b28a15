"""The files of jobs: where they lie, and how they get there so that neither a crash nor a power cut leaves half of one in use.

    jobs/jobs.sqlite3           their records
    jobs/reserve                room for the database on a full disk
    jobs/incoming/NAME          bodies that front doors write, until the job is stored
    jobs/NUMBER/body            the body of a job that has not ended
    jobs/NUMBER/checkpoint/     what its handler keeps there for its next attempt
    jobs/NUMBER/result.part     its result while it is written
    jobs/NUMBER/result          the result of a job that is done

Names come from numbers and from `secrets`, never from clients.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Self

from runtime.atomic_file import sync_path

log = logging.getLogger(__name__)

FOLDER = "jobs"
"""Name of the folder below `state_path`."""

_INCOMING = "incoming"
_NAME = re.compile(r"[0-9a-f]{32}")


class IncomingBody:
    """The body of a job that a front door writes. Its name here is removed at the end of the block; a job that has taken it has another.

    The file is locked meanwhile, so that nobody takes it for one that a dead front door has left. All calls block.

    Attributes:
        name: Its name, for `Submission.body_file`.
        file: The open file, unbuffered, to write to.
    """

    def __init__(self, folder: Path) -> None:
        while True:
            self.name = secrets.token_hex(16)
            self._path = folder / self.name
            self.file = open(self._path, "x+b", buffering=0, opener=_open_private)  # noqa: SIM115 - it needs an opener; `__exit__`
            fcntl.flock(self.file, fcntl.LOCK_EX)
            if os.fstat(self.file.fileno()).st_nlink:
                return
            self.file.close()  # `remove_abandoned` has removed it before it was locked

    def __enter__(self) -> Self:
        """Returns itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Calls `close`."""
        self.close()

    def sync(self) -> None:
        """Flushes the body to the disk. The job may be submitted then."""
        os.fsync(self.file.fileno())

    def close(self) -> None:
        """Removes the name, and closes the file. Idempotent."""
        if not self.file.closed:
            self._path.unlink(missing_ok=True)
            self.file.close()


class JobFiles:
    """The files of all jobs of one `state_path`. All calls but those that return a path block, and may be made from any thread.

    Args:
        state_path: The folder that the setting names.

    Attributes:
        folder: The folder of all jobs.
        database: The file with their records.
        reserve: A file that keeps room for them on a full disk.
    """

    def __init__(self, state_path: Path) -> None:
        self.folder = state_path / FOLDER
        self.database = self.folder / "jobs.sqlite3"
        self.reserve = self.folder / "reserve"
        self._incoming = self.folder / _INCOMING

    def create(self) -> None:
        """Makes the folders, which no other user may enter."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._incoming.mkdir(mode=0o700, exist_ok=True)

    def new_body(self) -> IncomingBody:
        """Returns a new file for the body of a job that is being received."""
        self.create()
        return IncomingBody(self._incoming)

    def body(self, number: int) -> Path:
        """Returns the path of a job's body."""
        return self.folder / str(number) / "body"

    def checkpoint(self, number: int) -> Path:
        """Returns the path of the folder for a job's checkpoint, which need not exist."""
        return self.folder / str(number) / "checkpoint"

    def make_checkpoint(self, number: int, owner: tuple[int, int] | None) -> None:
        """Makes the folder for a job's checkpoint.

        Args:
            number: Number of the job.
            owner: Numbers of the user and the group of its worker, who may then pass through the folders above, but list or read nothing in
                them; None if that is the user of this process.
        """
        folder = self.checkpoint(number)
        folder.mkdir(mode=0o700, exist_ok=True)
        if owner is not None:
            os.chown(folder, *owner)
            for above in (folder.parent, self.folder, self.folder.parent):
                above.chmod(above.stat().st_mode | 0o011)

    def result_part(self, number: int) -> Path:
        """Returns the path to which a job's result is written before `seal_result`."""
        return self.folder / str(number) / "result.part"

    def result(self, number: int) -> Path:
        """Returns the path of a job's result."""
        return self.folder / str(number) / "result"

    def seal_result(self, number: int) -> int:
        """Gives the result that was written its final name, once it is on the disk, and returns its length. May take long."""
        part = self.result_part(number)
        sync_path(part)
        size = part.stat().st_size
        part.replace(self.result(number))
        sync_path(part.parent)
        return size

    def take_body(self, name: str, number: int) -> None:
        """Links an incoming body, which is on the disk, into the folder of a new job.

        It keeps its first name until the record is stored: if this process dies before, who submits the job does so once more.

        Raises:
            OSError: It cannot be linked. The caller removes the folder.
        """
        target = self.body(number)
        target.parent.mkdir(mode=0o700)
        target.hardlink_to(self._incoming_path(name))
        sync_path(target.parent)
        sync_path(self.folder)

    def remove_incoming(self, name: str) -> None:
        """Removes an incoming body, if it is there. All methods that remove files only log errors: the next start removes what is left."""
        _remove(self._incoming_path(name))

    def remove_inputs(self, number: int) -> None:
        """Removes all that a job needs only while it has not ended."""
        for path in (self.body(number), self.checkpoint(number), self.result_part(number)):
            _remove(path)

    def remove_result_part(self, number: int) -> None:
        """Removes the result that was being written."""
        _remove(self.result_part(number))

    def remove_all(self, number: int) -> None:
        """Removes the folder of a job."""
        _remove(self.folder / str(number))

    def remove_abandoned(self) -> None:
        """Removes incoming bodies whose front door has died."""
        for path in list(self._incoming.iterdir()):
            with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(path)

    def numbers(self) -> list[int]:
        """Returns the numbers of the jobs that have a folder."""
        with os.scandir(self.folder) as entries:
            return [int(entry.name) for entry in entries if entry.name.isascii() and entry.name.isdigit()]

    def _incoming_path(self, name: str) -> Path:
        """Returns the path of an incoming body.

        Raises:
            ValueError: The name is none that `IncomingBody` gives.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not the name of an incoming body: {name!r}")
        return self._incoming / name


def require_room(descriptor: int, size: int, left_bytes: int) -> None:
    """Returns if the disk of an open file has room for more bytes, and leaves others.

    Args:
        descriptor: The file.
        size: Number of bytes to write.
        left_bytes: Number of bytes to leave.

    Raises:
        OSError: It has no such room (ENOSPC), or cannot be used.
    """
    disk = os.fstatvfs(descriptor)
    if disk.f_bavail * disk.f_frsize < size + left_bytes:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    try:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("cannot remove what a job has left: %s", exc)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
