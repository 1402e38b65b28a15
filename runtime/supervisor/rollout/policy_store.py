"""The persistent file of the supervisor: traffic policies and traffic shifts of all models.

It is a file rather than a database because it is small, is read once and written as a whole, and should be readable by people. It is
replaced atomically and flushed to the disk, so that it has the old or the new content after any crash or power failure.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import msgspec

from base.errors import PexdockError, Unavailable
from runtime.atomic_file import write_atomically
from runtime.supervisor.rollout.policy_record import PolicyRecord

log = logging.getLogger(__name__)

FILE = "traffic.json"
_LOCK = "lock"

FORMAT = 1
"""Version of the file format. It is increased when an older Pexdock would misread the file."""


class _Head(msgspec.Struct):
    format: int


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    models: dict[str, PolicyRecord]


class PolicyStoreUnusable(PexdockError):
    """The stored policies cannot be read. Pexdock then serves nothing, since a lost pin would move requests to the wrong release."""

    code = "cannot_keep"


class PolicyStore:
    """The policy file of one dist/, used by one supervisor at a time.

    Args:
        folder: Folder of the file; created when it is needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / FILE
        self._lock = -1
        self._was_usable = False  # whether the folder could be locked at the start
        self._logged_error = ""
        self._unwritten: set[str] = set()
        self.records: dict[str, PolicyRecord] = {}

    def __enter__(self) -> Self:
        """Locks the folder and reads the file.

        Raises:
            PolicyStoreUnusable: The file cannot be read, is from a newer Pexdock, or is used by another supervisor. Nothing was changed.
        """
        try:
            self._lock_folder()
        except OSError as exc:
            text = "traffic policies will be lost when this supervisor exits: cannot write to %s: %s; make it writable, or set state_path"
            log.warning(text, self._folder, exc.strerror)
        self._was_usable = self._lock >= 0
        try:
            self.records = _read_records(self._path)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Calls `close`."""
        self.close()

    def close(self) -> None:
        """Releases the lock. Idempotent."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def put_record(self, model: str, record: PolicyRecord) -> None:
        """Stores the record of a model durably.

        Raises:
            Unavailable: The file cannot be written; the previous record is still in force.
        """
        records = {**self.records, model: record}
        self._write(records)
        self.records, self._logged_error = records, ""
        self._unwritten.clear()

    def set_records(self, changed: Mapping[str, PolicyRecord]) -> None:
        """Sets records that no operator ordered. They are in force at once, and in the file after `write_changes`."""
        self.records = {**self.records, **changed}
        self._unwritten |= changed.keys()

    def write_changes(self) -> None:
        """Writes the records that were set since the last write, all at once, if the file can be written."""
        if not self._unwritten:
            return
        models, self._unwritten = ", ".join(sorted(self._unwritten)), set()
        try:
            self._write(self.records)
            self._logged_error = ""
        except Unavailable as exc:
            if exc.detail != self._logged_error:
                self._logged_error = exc.detail
                log.error("the new traffic policy of %s is only in memory: %s", models, exc.detail)  # noqa: TRY400 - the reason is complete

    def restore(self) -> bool:
        """Makes the folder and the file again if they were removed, from the records in memory. Returns whether something was made.

        Raises:
            Unavailable: The file cannot be written.
            PolicyStoreUnusable: Another supervisor uses the folder by now.
        """
        if not self._was_usable:
            return False
        restored = False
        if not self._is_lock_present():
            self.close()
            try:
                self._lock_folder()
            except OSError as exc:
                raise Unavailable(f"cannot write to {self._folder}: {exc.strerror}; make it writable, or set state_path") from exc
            restored = True
        if self.records and not self._path.exists():
            self._write(self.records)
            restored = True
        return restored

    def _is_lock_present(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), (self._folder / _LOCK).stat())
        return False

    def _write(self, records: dict[str, PolicyRecord]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_Document(FORMAT, records))) + b"\n"
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, content, mode=0o600, durable=True)
        except OSError as exc:
            raise Unavailable(f"cannot write {self._path}: {exc.strerror}; free some space, or set state_path to another folder") from exc

    def _lock_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.close()
            raise PolicyStoreUnusable(
                f"another supervisor stores its traffic policies in {self._folder}: give this one another folder with --state-path"
            ) from None
        for abandoned in self._folder.glob(f".{FILE}.*.part"):  # from a supervisor that was killed while it wrote
            with contextlib.suppress(OSError):
                abandoned.unlink()


def _read_records(path: Path) -> dict[str, PolicyRecord]:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise PolicyStoreUnusable(f"cannot read the traffic policies in {path}: {exc.strerror}") from exc
    try:
        head = msgspec.json.decode(content, type=_Head)
        if head.format > FORMAT:
            raise PolicyStoreUnusable(
                f"{path} was written by a newer Pexdock (format {head.format}, this one reads up to {FORMAT}): run the newer one"
            )
        return msgspec.json.decode(content, type=_Document).models
    except msgspec.MsgspecError as exc:
        raise PolicyStoreUnusable(f"{path} is damaged ({exc}): repair it, or move it away and set pins, splits and labels again") from exc
