"""Mirrors a dist/ in an object store to a local folder, which the watcher watches. Runs on a thread of the supervisor.

    <dist>/.mirror.json            the files that came from the store: their stamps there, and their stat results after the download
    <dist>/.mirror.lock            held by the process that mirrors; any other process only watches the folder
    <dist>/.<name>.<pid>.mirror    an object that is being downloaded

Other files in the folder are not touched, so a base from an image and models from a store may share it. A process that is killed at any
point leaves a complete file or none: the record is written before the rename, and a file that does not match its record is downloaded
again.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
from pathlib import Path
from typing import Protocol

import msgspec

from runtime.atomic_file import replace_atomically, write_atomically
from runtime.supervisor.dist.object_store import RemotePex
from runtime.supervisor.dist.stability import FileStat

log = logging.getLogger(__name__)

_RECORDS = ".mirror.json"
_LOCK = ".mirror.lock"
_PART = "mirror"
_REASON_MAX_CHARS = 500
_QUERY = re.compile(r"\?[^\s)\"']*")


class Remote(Protocol):
    """The source of a mirror; see `RemoteDist`."""

    url: str

    def list_pexes(self) -> list[RemotePex]:
        """Returns all pexes, the oldest first."""

    def download_pex(self, pex: RemotePex, file: Path) -> None:
        """Downloads a pex into a new file."""


class _Record(msgspec.Struct, frozen=True):
    """A file that came from the store: its stamp there, and its stat result here."""

    stamp: str
    inode: int
    size: int
    mtime_ns: int

    def matches(self, stat: FileStat | None) -> bool:
        return stat is not None and (stat.inode, stat.size, stat.mtime_ns) == (self.inode, self.size, self.mtime_ns)


class _Records(msgspec.Struct):
    """The content of the file `.mirror.json`."""

    url: str
    files: dict[str, _Record] = {}


class DistMirror:
    """Makes a folder a mirror of a store, one synchronization at a time.

    Args:
        remote: The store.
        folder: The folder; made if it is missing.
        pex_max_bytes: Largest object to download.
    """

    def __init__(self, remote: Remote, folder: Path, pex_max_bytes: int) -> None:
        self._remote = remote
        self._folder = folder
        self._pex_max_bytes = pex_max_bytes
        self._lock: int | None = None

    @property
    def is_empty(self) -> bool:
        """True if nothing was ever mirrored to the folder, so that there is no earlier state to start from."""
        return not (self._folder / _RECORDS).exists()

    def sync(self) -> list[str]:
        """Synchronizes the folder with the store: one listing, and one download after the other.

        Returns:
            One line for each pex that cannot be mirrored.

        Raises:
            Exception: The store or the folder cannot be used at the moment. Existing files are still there and complete.
        """
        if not self._acquire_lock():
            return []
        listed = self._remote.list_pexes()
        records = self._read_records()
        self._remove_deleted(records, {pex.name for pex in listed})
        return [problem for pex in listed if (problem := self._mirror_pex(records, pex))]

    def close(self) -> None:
        """Releases the lock, so that another process can mirror to the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _acquire_lock(self) -> bool:
        """Returns whether this process mirrors. If the process with the lock ends, another one acquires it at its next attempt."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is not None and not _is_at(self._lock, self._folder / _LOCK):
            self.close()  # another folder has replaced it
        if self._lock is None:
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
            for part in self._folder.glob(f".*.{_PART}"):
                part.unlink()
        return True

    def _mirror_pex(self, records: _Records, pex: RemotePex) -> str:
        """Downloads one object unless it is there. Returns the error, or an empty text; an error does not affect other objects."""
        record, stat = records.files.get(pex.name), _stat(self._folder / pex.name)
        if record is not None and record.stamp == pex.stamp and record.matches(stat):
            return ""
        if record is None and stat is not None:
            return f"{pex.name} exists already in {self._folder} and did not come from {self._remote.url}"
        if pex.size_bytes > self._pex_max_bytes:
            return f"{pex.name} has {pex.size_bytes} bytes, and the limit is {self._pex_max_bytes} (pex_max_bytes)"
        try:
            self._download(records, pex)
        except Exception as exc:  # noqa: BLE001 - of the network, a disk or a library: the next synchronization tries again
            return f"{pex.name}: {summarize_error(exc)}"
        return ""

    def _download(self, records: _Records, pex: RemotePex) -> None:
        with replace_atomically(self._folder / pex.name, suffix=_PART) as part:
            self._remote.download_pex(pex, part)
            found = FileStat.from_stat(part.stat())
            records.files[pex.name] = _Record(pex.stamp, found.inode, found.size, found.mtime_ns)
            self._write_records(records)
        log.info("%s: downloaded from %s, %d bytes", pex.name, self._remote.url, pex.size_bytes)

    def _remove_deleted(self, records: _Records, listed: set[str]) -> None:
        deleted = records.files.keys() - listed
        for name in deleted:
            record, path = records.files.pop(name), self._folder / name
            if record.matches(_stat(path)):  # otherwise another file has replaced it
                path.unlink(missing_ok=True)
        if deleted or self.is_empty:
            self._write_records(records)

    def _read_records(self) -> _Records:
        """Returns the records. Records of another store keep only the names, since its stamps do not apply to this store."""
        records = _Records(self._remote.url)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):  # a damaged file is replaced
            found = msgspec.json.decode((self._folder / _RECORDS).read_bytes(), type=_Records)
            same = found.url == records.url
            records.files = {name: record if same else msgspec.structs.replace(record, stamp="") for name, record in found.files.items()}
        return records

    def _write_records(self, records: _Records) -> None:
        write_atomically(self._folder / _RECORDS, msgspec.json.encode(records), durable=True, suffix=_PART)


def summarize_error(exc: Exception) -> str:
    """Returns an error as one line of limited length. Errors of libraries include whole requests and responses.

    The query of a URL is left out, since it may contain a signature that gives access to the store.
    """
    line = str(exc).strip().partition("\n")[0]
    return f"{type(exc).__name__}: {_QUERY.sub('', line)}"[:_REASON_MAX_CHARS]


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _stat(path: Path) -> FileStat | None:
    with contextlib.suppress(FileNotFoundError):
        return FileStat.from_stat(path.lstat())
    return None
