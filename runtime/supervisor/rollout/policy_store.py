"""The persistent file of the supervisor: traffic policies and traffic shifts of all models.

It is a file rather than a database because it is small, is read once and written as a whole, and should be readable by people. It is
replaced atomically and flushed to the disk, so that it has the old or the new content after any crash or power failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self

import msgspec

from base.errors import PexdockError, Unavailable
from runtime.atomic_file import write_atomically
from runtime.blocking import BlockingThreads
from runtime.path_errors import explain_os_error
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
    """The policy file of one dist/, used by one supervisor at a time. A thread writes it, one write at a time.

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
        self._disk = BlockingThreads(1, f"state_path ({folder})")
        self._turn = asyncio.Lock()  # held while the file is written
        self._writing: asyncio.Task[None] | None = None  # writes the records that no operator ordered
        self.records: dict[str, PolicyRecord] = {}

    def __enter__(self) -> Self:
        """Locks the folder and reads the file.

        Raises:
            PolicyStoreUnusable: The file cannot be read, is from a newer Pexdock, or is used by another supervisor; or the folder
                belongs to another user. Nothing was changed.
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
            self._unlock()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Calls `close`."""
        self.close()

    def close(self) -> None:
        """Releases the lock. Idempotent."""
        self._unlock()

    async def put_record(self, model: str, change: Callable[[PolicyRecord], PolicyRecord]) -> tuple[PolicyRecord, PolicyRecord]:
        """Changes the record of a model as an operator ordered, after all earlier orders. It is in force once it is stored durably.

        Args:
            model: Normalized name of the model.
            change: Returns the new record. It is called again if the record changed while the new one was being written. It may raise.

        Returns:
            The record before and after the change.

        Raises:
            Unavailable: The file cannot be written; the previous record is still in force.
        """
        async with self._turn:
            while True:
                stored = self.records.get(model)
                before = stored or PolicyRecord()
                after = change(before)
                included, self._unwritten = self._unwritten, set()
                try:
                    await self._write({**self.records, model: after})
                except BaseException:
                    self._unwritten |= included
                    raise
                self._logged_error = ""
                if self.records.get(model) is stored:
                    self.records = {**self.records, model: after}
                    return before, after

    def set_records(self, changed: Mapping[str, PolicyRecord]) -> None:
        """Sets records that no operator ordered. They are in force at once, and in the file some time after `write_changes`."""
        self.records = {**self.records, **changed}
        self._unwritten |= changed.keys()

    def write_changes(self) -> None:
        """Starts to write the records that were set since the last write, all at once, if the file can be written."""
        if self._unwritten and (self._writing is None or self._writing.done()):
            self._writing = asyncio.get_running_loop().create_task(self.finish())

    async def finish(self) -> None:
        """Waits until every change so far is written, or cannot be."""
        async with self._turn:
            while self._unwritten:
                models, self._unwritten = ", ".join(sorted(self._unwritten)), set()
                try:
                    await self._write(self.records)
                    self._logged_error = ""
                except Unavailable as exc:
                    if exc.detail != self._logged_error:
                        self._logged_error = exc.detail
                        text = "the new traffic policy of %s is only in memory: %s"
                        log.error(text, models, exc.detail)  # noqa: TRY400 - the reason is complete

    async def restore(self) -> bool:
        """Makes the folder and the file again if they were removed, from the records in memory. Returns whether something was made.

        Raises:
            Unavailable: The file cannot be written.
            PolicyStoreUnusable: Another supervisor uses the folder by now.
        """
        if not self._was_usable:
            return False
        async with self._turn:
            records = self.records
            return await self._disk.run(lambda: self._restore_files(records))

    def _restore_files(self, records: dict[str, PolicyRecord]) -> bool:
        restored = False
        if not self._is_lock_present():
            self._unlock()
            try:
                self._lock_folder()
            except OSError as exc:
                raise Unavailable(f"cannot write to {self._folder}: {exc.strerror}; make it writable, or set state_path") from exc
            restored = True
        if records and not self._path.exists():
            self._write_file(_encode(records))
            restored = True
        return restored

    def _is_lock_present(self) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._lock), (self._folder / _LOCK).stat())
        return False

    async def _write(self, records: dict[str, PolicyRecord]) -> None:
        content = _encode(records)
        await self._disk.run(lambda: self._write_file(content))

    def _write_file(self, content: bytes) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_atomically(self._path, content, mode=0o600, durable=True)
        except OSError as exc:
            named = OSError(exc.errno, exc.strerror, str(self._path))  # not the temporary file
            raise Unavailable(explain_os_error(named, {"state_path": self._folder})) from exc

    def _lock_folder(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = self._folder.stat().st_uid
        if owner not in {0, os.geteuid()}:
            reason = f"{self._folder} belongs to user {owner}, who could change the traffic policies"
            raise PolicyStoreUnusable(f"{reason}: make user {os.geteuid()} its owner, or set state_path to another folder")
        self._lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._unlock()
            raise PolicyStoreUnusable(
                f"another supervisor stores its traffic policies in {self._folder}: give this one another folder with --state-path"
            ) from None
        for abandoned in self._folder.glob(f".{FILE}.*.part"):  # from a supervisor that was killed while it wrote
            with contextlib.suppress(OSError):
                abandoned.unlink()

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _encode(records: dict[str, PolicyRecord]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(_Document(FORMAT, records))) + b"\n"


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
