"""Downloads on disk, shared by the workers of a machine. Each is fetched once, and stored completely or not at all; the total is bounded.

    <root>/kept/<digest>/<name>     a complete file or folder; never changed
    <root>/new/<digest>             a download in progress
    <root>/locks/<number>           held while a digest with this number is fetched
    <root>/lock                     held while a download is found, added or deleted, which is quick

A process that uses a download holds a shared lock on its folder, at most until the process ends. So no download in use is deleted:

    Process A holds `lock`, finds a download, takes the shared lock of its folder and releases `lock`. Process B, which makes room, holds
    `lock` and tries to lock the folder exclusively. This fails while A holds the shared lock.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from base.artifacts.clients.protocol import Artifact

CACHE_PATH_VARIABLE = "PEXDOCK_CACHE_PATH"
"""Environment variable with the cache folder; by default `$XDG_CACHE_HOME/pexdock` or `~/.cache/pexdock`."""

MAX_BYTES = 10 * 2**30
"""Default limit of the bytes of all downloads of a machine; downloads in use are kept beyond it."""
_LOCKS = 64
"""Number of lock files. It is fixed, so that they need not be removed; two downloads that share one only wait for each other."""


def cache_folder() -> Path:
    """Returns the folder that the workers of this machine share, which may not exist yet. The environment is read at each use."""
    named = os.environ.get(CACHE_PATH_VARIABLE)
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pexdock"


class Downloads:
    """The downloads in one folder; see the module docstring.

    Args:
        root: The folder; None means `artifacts` in the folder that `PEXDOCK_CACHE_PATH` names, read at each use.
        max_bytes: Maximum bytes of all downloads. Downloads in use are kept beyond it.
    """

    def __init__(self, root: Path | str | None = None, max_bytes: int = MAX_BYTES) -> None:
        self._given = root
        self._max_bytes = max_bytes

    @property
    def root(self) -> Path:
        """Returns the folder, which may not exist yet."""
        return cache_folder() / "artifacts" if self._given is None else Path(self._given)

    def artifact(self, fingerprint: str, name: str, fetch: Callable[[Path], None]) -> Artifact:
        """Returns the download with this fingerprint, and fetches it first if needed. Blocks while another process fetches it.

        Args:
            fingerprint: Identifies origin and content.
            name: Name of the file or folder; the last component of the artifact's location.
            fetch: Creates the file or folder at the path that it gets. Its exceptions are raised here, and nothing is stored.

        Returns:
            An artifact that is not deleted before its `release` or the exit of this process.
        """
        digest = hashlib.sha256(f"{fingerprint}\0{name}".encode(errors="surrogateescape")).hexdigest()
        root = self.root
        for folder in ("kept", "new", "locks"):
            (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = root / "kept" / digest
        lock = self._lock_existing(root, kept / name)
        if lock is None:
            with _locked(root / "locks" / str(int(digest[:8], 16) % _LOCKS)):
                lock = self._lock_existing(root, kept / name)  # another worker may have fetched it meanwhile
                if lock is None:
                    lock = self._fetch(root, kept, name, fetch)
        return Artifact(kept / name, fingerprint, _size_bytes(kept), _closing(lock))

    def _lock_existing(self, root: Path, path: Path) -> int | None:
        """Returns a descriptor that holds the shared lock of a download; None if it does not exist, or a cleaner left only its folder."""
        with _locked(root / "lock"):
            return _lock_shared(path.parent) if path.exists() else None

    def _fetch(self, root: Path, kept: Path, name: str, fetch: Callable[[Path], None]) -> int:
        new = root / "new" / kept.name
        shutil.rmtree(new, ignore_errors=True)  # left by a process that died
        new.mkdir(mode=0o700)
        try:
            fetch(new / name)
            with _locked(root / "lock"):
                shutil.rmtree(kept, ignore_errors=True)  # without its content, if it exists
                new.rename(kept)
                lock = _lock_shared(kept)
                self._make_room(root)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return lock

    def _make_room(self, root: Path) -> None:
        """Deletes downloads that are not in use, the least recently used first, until the rest fits. The caller holds the lock."""
        found = sorted((root / "kept").iterdir(), key=lambda each: each.stat().st_mtime)
        sizes = {each: _size_bytes(each) for each in found}
        total = sum(sizes.values())
        for each in found:
            if total <= self._max_bytes:
                return
            if _is_unused(each):
                shutil.rmtree(each)
                total -= sizes[each]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _lock_shared(folder: Path) -> int:
    """Returns a descriptor that holds the folder's shared lock.

    The lock is free, since exclusive locks are taken only by holders of `lock`, and the caller holds `lock`.
    """
    os.utime(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _is_unused(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _closing(descriptor: int) -> Callable[[], None]:
    """Returns a function that closes the descriptor once: a second call could close another file with the same number."""
    lock, open_descriptors = threading.Lock(), [descriptor]

    def close() -> None:
        with lock:
            if open_descriptors:
                os.close(open_descriptors.pop())

    return close


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
