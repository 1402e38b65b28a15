"""Locks the folders of a cache that several processes share: a folder is held while it is used, and only one process makes or removes it.

    <folder>.lock     locked by the process that makes the folder
    <folder>.used     locked by processes that use it (shared), and by the one that removes it (exclusive)

Standard library only, like `unpack`. Lock files are removed with their folder. So after locking a file, a process checks that the file
still exists. Without this check:

    A opens the file; B, which holds it, removes the folder and the file; A gets the lock of a file that no other process will ever lock.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Report = Callable[[str], None]
"""Called with one line of progress at a time."""

_LOCK_ATTEMPTS = 100
"""Each fails only if another process removes the file between two calls."""


def sibling_path(folder: Path, suffix: str) -> Path:
    """Returns the path of the folder with a further suffix."""
    return folder.with_name(f"{folder.name}.{suffix}")


def make_cache_folder(cache: Path, *names: str) -> Path:
    """Makes a folder below the cache folder unless it exists, and returns it.

    Raises:
        PermissionError: Another user than this one and root owns a folder on the way, and could replace the code in it.
    """
    folder = cache
    for name in ("", *names):
        folder = folder / name
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        owner = folder.stat().st_uid
        if owner not in {0, os.geteuid()}:
            raise PermissionError(errno.EPERM, f"it belongs to user {owner}, whose code could run", str(folder))
    return folder


def hold_folder(folder: Path) -> int:
    """Protects a folder, which need not exist yet, from removal until the returned descriptor is closed, at the latest with the process."""
    make_cache_folder(folder.parents[1], folder.parent.name)
    return _open_locked(sibling_path(folder, "used"), fcntl.LOCK_SH)


def is_held(folder: Path, descriptor: int) -> bool:
    """Returns whether a descriptor of `hold_folder` still protects the folder: its lock file may have been removed by something else."""
    try:
        return os.path.samestat(os.fstat(descriptor), sibling_path(folder, "used").stat())
    except FileNotFoundError:
        return False


@contextlib.contextmanager
def lock_folder(folder: Path, report: Report) -> Iterator[None]:
    """Reserves the making of the folder for this process until the end of the block. Waits for another process that makes it."""
    path = sibling_path(folder, "lock")
    try:
        descriptor = _open_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        report("waiting for another process that unpacks the same file")
        descriptor = _open_locked(path, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


def remove_unused_folder(folder: Path) -> bool:
    """Removes a folder and its leftovers of killed processes, unless a process holds or makes it. Returns whether the folder was removed.

    A process that calls `hold_folder` meanwhile waits, and then finds that the folder no longer exists.
    """
    with contextlib.ExitStack() as stack:
        for suffix in ("used", "lock"):
            try:
                descriptor = _open_locked(sibling_path(folder, suffix), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if suffix == "lock" and not folder.exists():  # another process makes it; we have just created the other lock file
                    sibling_path(folder, "used").unlink(missing_ok=True)
                return False
            stack.callback(os.close, descriptor)
        # Renamed first, since no process must find a partial folder under the final name.
        gone = sibling_path(folder, "gone")
        shutil.rmtree(gone, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(gone)
        for leftover in (gone, sibling_path(folder, "part")):
            shutil.rmtree(leftover, ignore_errors=True)
        for suffix in ("used", "lock"):
            sibling_path(folder, suffix).unlink(missing_ok=True)
    return True


def _open_locked(path: Path, operation: int) -> int:
    """Returns a descriptor that has locked the present file at `path`. Makes the file if it is missing.

    Raises:
        BlockingIOError: `operation` does not wait, and another process has the lock.
        OSError: The file does not stay there, or its file system gives it another number each time.
    """
    for _ in range(_LOCK_ATTEMPTS):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, operation)
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass  # removed since it was opened
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
    raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(path))
