"""Copies files and folders so that a reader finds all of a copy or nothing, even after a power cut."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def copy_durably(source: Path, place: Path, unfinished: Path) -> None:
    """Copies a file or a folder. It is on disk when this returns.

    Args:
        source: What is copied.
        place: Path of the copy. A file there is replaced.
        unfinished: A path in the same folder for the copy while it is incomplete. What is there from an earlier copy is removed.

    Raises:
        OSError: It cannot be read or written. There is no copy, and nothing at `unfinished`.
    """
    remove(unfinished)
    try:
        if source.is_dir():
            shutil.copytree(source, unfinished)
        else:
            shutil.copyfile(source, unfinished)
        _sync_tree(unfinished)
        unfinished.rename(place)
    except OSError:
        remove(unfinished)
        raise
    _sync(place.parent)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it exists."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _sync_tree(path: Path) -> None:
    if path.is_dir():
        for each in path.iterdir():
            _sync_tree(each)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
