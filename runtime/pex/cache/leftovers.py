"""What killed processes left in a cache folder, and notes about files that are gone."""

from __future__ import annotations

import contextlib
import json
import time
from pathlib import Path

from runtime.pex.locks import remove_unused_folder

_LEFT_S = 3600.0
"""A copy that nobody has written to for so long is nobody's. What is unpacked has a lock, and needs no guess."""
_MARKS = (".gone", ".part", ".used", ".lock")


def remove_leftovers(cache: Path) -> None:
    """Remove half-made and half-removed folders, locks of folders that are gone, copies that were never finished, and old digests."""
    for parent in (cache / "bases", cache / "releases"):
        for folder in _orphans(parent):
            with contextlib.suppress(OSError):  # somebody else's, or a disk that is full
                remove_unused_folder(folder)
        for part in parent.glob("*.part"):
            with contextlib.suppress(OSError):
                if part.is_file() and time.time() - part.stat().st_mtime > _LEFT_S:
                    part.unlink()
    for note in (cache / "digests").glob("*"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if not Path(json.loads(note.read_text())["path"]).exists():
                note.unlink()


def _orphans(parent: Path) -> set[Path]:
    """Folders that are not there, and of which something lies beside their place."""
    marked = [entry for entry in parent.iterdir() if entry.suffix in _MARKS] if parent.is_dir() else []
    folders = {entry.with_suffix("") for entry in marked if not (entry.suffix == ".part" and entry.is_file())}
    return {folder for folder in folders if not folder.exists()}
