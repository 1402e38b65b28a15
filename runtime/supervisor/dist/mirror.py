"""A local folder that is kept like a dist/ in an object store; the watch follows the folder. Runs on a thread of the supervisor.

    <dist>/.mirror.json       which files came from the store, by which stamp, and what they looked like when they came
    <dist>/.mirror.lock       held by the one who keeps the folder; whoever comes second only watches it
    <dist>/.<name>.mirror     an object that is being downloaded

Files that others put there are left alone, so a base in an image and models in a store may lie in one folder. A process that is killed
anywhere leaves a whole file or none: what is noted is written before the rename, and what does not look as noted is fetched again.
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

from runtime.atomic_file import write_atomically
from runtime.supervisor.dist.stability import FileStat
from runtime.supervisor.dist.object_store import RemotePex

log = logging.getLogger(__name__)

_NOTES = ".mirror.json"
_LOCK = ".mirror.lock"
_PART = ".mirror"
_REASON_MAX = 500
_QUERY = re.compile(r"\?[^\s)\"']*")


class Remote(Protocol):
    """What is mirrored; see `RemoteDist`."""

    url: str

    def list_pexes(self) -> list[RemotePex]:
        """All pexes, oldest first."""

    def download_pex(self, pex: RemotePex, file: Path) -> None:
        """Write one into a new file."""


class _Note(msgspec.Struct, frozen=True):
    """A file that came from the store: its stamp there, and what its content is told by here."""

    stamp: str
    inode: int
    size: int
    mtime_ns: int


class _Notes(msgspec.Struct):
    url: str
    files: dict[str, _Note] = {}


class DistMirror:
    """Keeps `folder` like `remote`, a turn at a time.

    Args:
        remote: what lies in the store.
        folder: made where it is missing.
        pex_max_bytes: larger objects are left where they are.
    """

    def __init__(self, remote: Remote, folder: Path, pex_max_bytes: int) -> None:
        self._remote = remote
        self._folder = folder
        self._pex_max_bytes = pex_max_bytes
        self._lock: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever fetched into the folder: then there is no earlier state to begin with."""
        return not (self._folder / _NOTES).exists()

    def sync(self) -> list[str]:
        """Make the folder what the store is now: one listing, and one download after the other.

        Returns:
            What of it cannot be had, one line a pex.

        Raises:
            Exception: the store or the folder cannot be used now. What was there is there still, and whole.
        """
        if not self._is_ours():
            return []
        listed = self._remote.list_pexes()
        notes = self._notes()
        self._remove_vanished(notes, {pex.name for pex in listed})
        return [trouble for pex in listed if (trouble := self._trouble(notes, pex))]

    def close(self) -> None:
        """Let another one keep the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _is_ours(self) -> bool:
        """Whether this process keeps the folder. The lock ends with it, and then the next one has it at its next turn."""
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._lock is not None and not _is_at(self._lock, self._folder / _LOCK):
            self.close()  # the folder was replaced by another one
        if self._lock is None:
            lock = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                return False
            self._lock = lock
            for part in self._folder.glob(f".*{_PART}"):
                part.unlink()
        return True

    def _trouble(self, notes: _Notes, pex: RemotePex) -> str:
        """What is wrong with one object, which is no matter of the others."""
        try:
            return self._follow(notes, pex)
        except Exception as exc:  # noqa: BLE001 - of the network, of a disk, of a library: it is tried again at the next turn
            return f"{pex.name}: {summarize_error(exc)}"

    def _follow(self, notes: _Notes, pex: RemotePex) -> str:
        """Fetch one object unless it is there. Returns why that may not be."""
        note, stat = notes.files.get(pex.name), _stat(self._folder / pex.name)
        if note is not None and note.stamp == pex.stamp and _looks_as(note, stat):
            return ""
        if note is None and stat is not None:
            return f"{pex.name} is there already, and not from {self._remote.url}"
        if pex.size_bytes > self._pex_max_bytes:
            return f"{pex.name} has {pex.size_bytes} bytes, {self._pex_max_bytes} at most"
        self._fetch(notes, pex)
        return ""

    def _fetch(self, notes: _Notes, pex: RemotePex) -> None:
        part = self._folder / f".{pex.name}{_PART}"
        try:
            self._remote.download_pex(pex, part)
            found = FileStat.from_stat(part.stat())
            notes.files[pex.name] = _Note(pex.stamp, found.inode, found.size, found.mtime_ns)
            self._write(notes)
            part.rename(self._folder / pex.name)
            log.info("%s: fetched from %s, %d bytes", pex.name, self._remote.url, pex.size_bytes)
        finally:
            part.unlink(missing_ok=True)

    def _remove_vanished(self, notes: _Notes, listed: set[str]) -> None:
        vanished = notes.files.keys() - listed
        for name in vanished:
            note, path = notes.files.pop(name), self._folder / name
            if _looks_as(note, _stat(path)):  # else somebody here has put another file in its place
                path.unlink(missing_ok=True)
        if vanished or self.is_empty:
            self._write(notes)

    def _notes(self) -> _Notes:
        """What was noted. Of another store only the names count: its stamps say nothing about this one."""
        notes = _Notes(self._remote.url)
        with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):  # a damaged one is made anew
            found = msgspec.json.decode((self._folder / _NOTES).read_bytes(), type=_Notes)
            same = found.url == notes.url
            notes.files = {name: note if same else msgspec.structs.replace(note, stamp="") for name, note in found.files.items()}
        return notes

    def _write(self, notes: _Notes) -> None:
        write_atomically(self._folder / _NOTES, msgspec.json.encode(notes), durable=True, suffix=_PART.removeprefix("."))


def summarize_error(exc: Exception) -> str:
    """An error in one line of a bounded length: libraries put whole answers of a store into theirs, and what they asked.

    The query of a URL is left out, since it may hold a signature that opens the store.
    """
    line = str(exc).strip().partition("\n")[0]
    return f"{type(exc).__name__}: {_QUERY.sub('', line)}"[:_REASON_MAX]


def _is_at(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), path.stat())
    return False


def _stat(path: Path) -> FileStat | None:
    with contextlib.suppress(FileNotFoundError):
        return FileStat.from_stat(path.lstat())
    return None


def _looks_as(note: _Note, stat: FileStat | None) -> bool:
    return stat is not None and (stat.inode, stat.size, stat.mtime_ns) == (note.inode, note.size, note.mtime_ns)
