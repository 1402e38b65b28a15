"""Folders of a cache that several processes share: held by who uses one, made and removed by one at a time.

    <folder>.lock     locked by who makes the folder
    <folder>.used     locked by who uses it, shared, and by who removes it, exclusively

Standard library only, like `unpack`. Lock files go with their folder, so whoever has locked one looks whether others still find it:

    A opens the file; B, which holds it, removes the folder and the file; A gets the lock of a file that nobody else will ever lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

Report = Callable[[str], None]


def sibling_path(folder: Path, suffix: str) -> Path:
    """A name beside a folder."""
    return folder.with_name(f"{folder.name}.{suffix}")


def hold_folder(folder: Path) -> int:
    """Protect a folder, made or still to be made, from removal until the returned descriptor is closed, also by this process's end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    return _open_locked(sibling_path(folder, "used"), fcntl.LOCK_SH)


@contextlib.contextmanager
def lock_folder(folder: Path, report: Report) -> Iterator[None]:
    """Be the only one, over all processes, who makes the folder, until the block ends."""
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
    """Remove a folder, and what killed processes left of it, unless somebody holds or makes it.

    Whoever calls `hold` meanwhile waits, and then finds it gone.
    """
    with contextlib.ExitStack() as stack:
        for suffix in ("used", "lock"):
            try:
                descriptor = _open_locked(sibling_path(folder, suffix), fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if suffix == "lock" and not folder.exists():  # somebody makes it; the file is of our asking
                    sibling_path(folder, "used").unlink(missing_ok=True)
                return False
            stack.callback(os.close, descriptor)
        # Renamed first: half a folder must never be found under its name.
        aside = sibling_path(folder, "gone")
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            folder.rename(aside)
        for left in (aside, sibling_path(folder, "part")):
            shutil.rmtree(left, ignore_errors=True)
        for suffix in ("used", "lock"):
            sibling_path(folder, suffix).unlink(missing_ok=True)
    return True


def _open_locked(path: Path, operation: int) -> int:
    """A descriptor with the lock of the file that is at `path` now, made if need be.

    Raises:
        BlockingIOError: `operation` does not wait, and somebody else has it.
    """
    while True:
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
