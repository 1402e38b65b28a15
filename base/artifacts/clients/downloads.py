"""Downloads on disk, shared by the workers of a machine: each is fetched once, kept whole or not at all, and bounded by bytes.

    <root>/kept/<digest>/<name>     a file or folder that is complete; never changed
    <root>/new/<digest>             one that is being fetched
    <root>/locks/<number>           held while a digest with this number is fetched
    <root>/lock                     held while something is found, put or dropped, which is quick

Who uses a download holds a shared lock on its folder, which ends with its process at the latest; so nothing in use is ever dropped:

    A finds a download (lock), takes its folder's shared lock, lets `lock` go; B, who makes room, holds `lock` and wants the folder alone:
    it does not get it while A has it.
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
"""Names the folder for what can be made again; `$XDG_CACHE_HOME/pexdock` or `~/.cache/pexdock` where it is not set."""

MAX_BYTES = 10 * 2**30
"""Of all downloads of a machine that nobody uses at the moment, unless a client says otherwise."""
_LOCKS = 64
"""Fixed, so that lock files need not be removed; two downloads that share one merely wait for each other."""


class Downloads:
    """See the module.

    Args:
        root: the folder; None means `artifacts` in the one that `PEXDOCK_CACHE_PATH` names, looked up at each use.
        max_bytes: of all downloads. What is in use is kept beyond it.
    """

    def __init__(self, root: Path | str | None = None, max_bytes: int = MAX_BYTES) -> None:
        self._given = root
        self._max_bytes = max_bytes

    @property
    def root(self) -> Path:
        """The folder, which may not be there yet."""
        if self._given is not None:
            return Path(self._given)
        named = os.environ.get(CACHE_PATH_VARIABLE)
        home = Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pexdock"
        return home / "artifacts"

    def artifact(self, fingerprint: str, name: str, fetch: Callable[[Path], None]) -> Artifact:
        """The download with this fingerprint, fetched if it is not there. Blocks while another process fetches it.

        Args:
            fingerprint: of place and content.
            name: of the file or folder; the last component of the artifact's location.
            fetch: makes the file or folder at the path that it is given. What it raises is raised here, and nothing is kept.

        Returns:
            An artifact that is not dropped before its `release`, nor before this process ends.
        """
        digest = hashlib.sha256(f"{fingerprint}\0{name}".encode(errors="surrogateescape")).hexdigest()
        root = self.root
        for folder in ("kept", "new", "locks"):
            (root / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = root / "kept" / digest
        held = self._hold(root, kept)
        if held is None:
            with _locked(root / "locks" / str(int(digest[:8], 16) % _LOCKS)):
                held = self._hold(root, kept)  # another worker may have fetched it meanwhile
                if held is None:
                    held = self._fetched(root, kept, name, fetch)
        return Artifact(kept / name, fingerprint, _size_bytes(kept), _closing(held))

    def _hold(self, root: Path, kept: Path) -> int | None:
        """Marks a download as in use, by a descriptor to close; None if it is not there."""
        with _locked(root / "lock"):
            return _shared(kept) if kept.exists() else None

    def _fetched(self, root: Path, kept: Path, name: str, fetch: Callable[[Path], None]) -> int:
        new = root / "new" / kept.name
        shutil.rmtree(new, ignore_errors=True)  # of a process that died
        new.mkdir(mode=0o700)
        try:
            fetch(new / name)
            with _locked(root / "lock"):
                new.rename(kept)
                held = _shared(kept)
                self._make_room(root)
        finally:
            shutil.rmtree(new, ignore_errors=True)
        return held

    def _make_room(self, root: Path) -> None:
        """Drops what nobody uses, longest unused first, until the rest fits. Under the lock."""
        found = sorted((root / "kept").iterdir(), key=lambda each: each.stat().st_mtime)
        sizes = {each: _size_bytes(each) for each in found}
        total = sum(sizes.values())
        for each in found:
            if total <= self._max_bytes:
                return
            if _unused(each):
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


def _shared(folder: Path) -> int:
    """A descriptor with the folder's shared lock, which is free: who takes it alone does so under the lock that we hold."""
    os.utime(folder)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _unused(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)


def _closing(descriptor: int) -> Callable[[], None]:
    """Closes it once: a second call could close what got the same number since."""
    lock, held = threading.Lock(), [descriptor]

    def close() -> None:
        with lock:
            if held:
                os.close(held.pop())

    return close


def _size_bytes(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())
