"""Folders of the cache that keep the newest results of builds."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PREFIX = ".part-"
_ABANDONED_AFTER_S = 24 * 3600
"""No build takes that long: an older temporary folder was left by a build that was killed."""


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder inside `folder`, in which a file can be made and then renamed. It is removed at the end of the block."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_PREFIX) as name:
        yield Path(name)


def prune_to_newest(folder: Path, pattern: str, count: int) -> None:
    """Removes all but the `count` matching entries that were changed last, and the leftovers of killed builds."""
    for entry in sorted(folder.glob(pattern), key=_changed)[:-count]:
        _remove(entry)
    for entry in folder.glob(f"{_PREFIX}*"):
        if time.time() - _changed(entry) > _ABANDONED_AFTER_S:
            _remove(entry)


def _changed(entry: Path) -> float:
    """Returns the time of the last change; 0 if another process removed the entry meanwhile."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
