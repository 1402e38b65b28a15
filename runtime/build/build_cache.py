"""Folders of the cache that keep the newest of what builds made."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = ".part-"
_FORGOTTEN_AFTER_S = 24 * 3600
"""No build takes that long: what lies aside for longer was left by one that was killed."""


@contextmanager
def temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder inside of `folder`, to make something in and then rename it, until the block ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=_ASIDE) as name:
        yield Path(name)


def prune_to_newest(folder: Path, pattern: str, count: int) -> None:
    """Remove all but the `count` entries that match and were changed last, and what killed builds left."""
    for entry in sorted(folder.glob(pattern), key=_changed)[:-count]:
        _remove(entry)
    for entry in folder.glob(f"{_ASIDE}*"):
        if time.time() - _changed(entry) > _FORGOTTEN_AFTER_S:
            _remove(entry)


def _changed(entry: Path) -> float:
    """0 for what another process removed meanwhile."""
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove(entry: Path) -> None:
    if entry.is_dir():
        shutil.rmtree(entry, ignore_errors=True)
    else:
        entry.unlink(missing_ok=True)
