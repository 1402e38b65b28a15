"""Removes the leftovers of killed processes from a cache folder, and cached digests of files that no longer exist."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from runtime.pex.locks import remove_unused_folder

_ABANDONED_AFTER_S = 3600.0
"""Time in seconds after which a copy that is not written to counts as abandoned. Folders have locks instead."""
_SUFFIXES = (".gone", ".part", ".used", ".lock")


def remove_leftovers(cache: Path) -> None:
    """Removes incomplete folders, unfinished copies, and the locks and digests of folders and files that no longer exist."""
    for parent in (cache / "bases", cache / "releases"):
        for folder in _missing_folders(parent):
            with contextlib.suppress(OSError):  # it belongs to another user, or the disk is full
                remove_unused_folder(folder)
        for part in parent.glob("*.part"):
            with contextlib.suppress(OSError):
                if part.is_file() and time.time() - part.stat().st_mtime > _ABANDONED_AFTER_S:
                    part.unlink()
    for note in (cache / "digests").glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not Path(json.loads(note.read_text())["path"]).exists():
                note.unlink()


def _missing_folders(parent: Path) -> set[Path]:
    """Returns the paths of folders that do not exist but have a lock or an incomplete copy beside them."""
    siblings = [entry for entry in parent.iterdir() if entry.suffix in _SUFFIXES] if parent.is_dir() else []
    folders = {entry.with_suffix("") for entry in siblings if not (entry.suffix == ".part" and entry.is_file())}
    return {folder for folder in folders if not folder.exists()}
