"""Decides when a file in dist/ is complete, has changed or is removed. Pure: takes listings, events and a clock, and opens no file.

A pex is used only once it is complete. Events show that a file is being written (created, not yet closed). A file that existed before the
watch began, or whose event was lost, counts as complete once its size and times have not changed for `stable_for_s`. If that guess is wrong
(a copy that pauses for longer), the file changes again and is used again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from runtime.pex.names import is_pex_name


@dataclass(frozen=True)
class FileStat:
    """The part of a stat result that distinguishes contents of a file and shows whether it can be read. Times are wall clock times."""

    inode: int
    size: int
    mtime_ns: int
    mode: int = 0

    @classmethod
    def from_stat(cls, stat: os.stat_result) -> FileStat:
        """Returns the relevant part of a stat result."""
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode)


@dataclass(frozen=True)
class FileStable:
    """An event: a file is complete, and it is new or its content has changed."""

    name: str


@dataclass(frozen=True)
class FileRemoved:
    """An event: a file that was stable was removed."""

    name: str


@dataclass
class _File:
    stat: FileStat
    since: float
    stable: bool = False
    was_stable: bool = False


class StabilityTracker:
    """The files of one dist/. All times except those of files are seconds of one monotonic clock.

    Args:
        stable_for_s: Time without a change after which a file counts as complete, in seconds.
    """

    def __init__(self, stable_for_s: float) -> None:
        self._stable_for_s = stable_for_s
        self._files: dict[str, _File] = {}
        self._being_written: set[str] = set()

    def on_created(self, name: str) -> None:
        """Handles a file that was created and is open for writing."""
        if is_pex_name(name):
            self._being_written.add(name)

    def on_closed(self, name: str) -> None:
        """Handles a file that was closed after writing, or renamed to this name."""
        self._being_written.discard(name)

    def on_events_lost(self) -> None:
        """Handles a loss of events. A close may have been among them, so every file that does not change counts as complete."""
        self._being_written.clear()

    def start(self, stats: Mapping[str, FileStat], now: float, wall_ns: int) -> list[FileStable]:
        """Takes the listing at the start. Returns the files that were last written long enough ago, the oldest first."""
        for name, stat in stats.items():
            if is_pex_name(name):
                age_s = (wall_ns - stat.mtime_ns) / 1e9
                self._files[name] = _File(stat, now - max(age_s, 0))
        due = sorted((name for name in self._files if self._is_due(name, now)), key=lambda name: (self._files[name].stat.mtime_ns, name))
        return [self._mark_stable(name) for name in due]

    def update(self, stats: Mapping[str, FileStat], now: float) -> list[FileStable | FileRemoved]:
        """Takes a listing of all regular files of dist/. Returns the events since the last listing."""
        events: list[FileStable | FileRemoved] = [
            FileRemoved(name) for name, file in self._files.items() if name not in stats and file.was_stable
        ]
        self._files = {name: file for name, file in self._files.items() if name in stats}
        self._being_written &= stats.keys()
        for name, stat in stats.items():
            if is_pex_name(name):
                self._update_file(name, stat, now)
        return events + [self._mark_stable(name) for name in sorted(self._files) if self._is_due(name, now)]

    def next_check_s(self) -> float | None:
        """Returns the time at which to list dist/ again if no event comes before; None if no file is about to become stable."""
        waiting = [file.since for name, file in self._files.items() if not file.stable and name not in self._being_written]
        return min(waiting) + self._stable_for_s if waiting else None

    def unstable_files(self) -> set[str]:
        """Returns the names of the files that are not stable yet."""
        return {name for name, file in self._files.items() if not file.stable}

    def _update_file(self, name: str, stat: FileStat, now: float) -> None:
        file = self._files.get(name)
        if file is None:
            self._files[name] = _File(stat, now)
        elif file.stat != stat:
            self._files[name] = _File(stat, now, was_stable=file.was_stable)

    def _is_due(self, name: str, now: float) -> bool:
        file = self._files[name]
        return not file.stable and name not in self._being_written and now >= file.since + self._stable_for_s

    def _mark_stable(self, name: str) -> FileStable:
        self._files[name].stable = self._files[name].was_stable = True
        return FileStable(name)
