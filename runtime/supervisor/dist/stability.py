"""Which files lie in dist/: seen, settled, changed, vanished. Pure: fed with listings, events and a clock; opens nothing.

A pex is taken only once it is whole. A file that is being written announces itself (created, not yet closed); one that was there
before anybody watched, or whose announcement got lost, counts as whole once its size and its times stand still. If that guess
is wrong (a copy that pauses for longer than `stable_for_s`), the file changes again and is taken again.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from runtime.pex.names import is_pex_name









@dataclass(frozen=True)
class FileStat:
    """What tells one content of a file from another without reading it, and whether it can be read. Times are in ns of the wall clock."""

    inode: int
    size: int
    mtime_ns: int
    mode: int = 0

    @classmethod
    def from_stat(cls, stat: os.stat_result) -> FileStat:
        """The part of a stat result that counts."""
        return cls(stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode)


@dataclass(frozen=True)
class FileStable:
    """A file is whole: new, or with another content than before."""

    name: str


@dataclass(frozen=True)
class FileRemoved:
    """A file that had settled is gone."""

    name: str


@dataclass
class _File:
    stat: FileStat
    since: float
    settled: bool = False
    was_settled: bool = False


class StabilityTracker:
    """The files of one dist/. All times but those of files are in seconds of one monotonic clock."""

    def __init__(self, stable_for_s: float) -> None:
        self._stable_for_s = stable_for_s
        self._files: dict[str, _File] = {}
        self._open: set[str] = set()

    def on_created(self, name: str) -> None:
        """`name` was created and is still open for writing."""
        if is_pex_name(name):
            self._open.add(name)

    def on_closed(self, name: str) -> None:
        """`name` was closed after writing, or renamed in."""
        self._open.discard(name)

    def on_events_lost(self) -> None:
        """Events were lost, so a close may have been among them: what stands still counts as whole."""
        self._open.clear()

    def start(self, stats: Mapping[str, FileStat], now: float, wall_ns: int) -> list[FileStable]:
        """The listing at the start: files that were last written long enough ago have settled, oldest first."""
        for name, stat in stats.items():
            if is_pex_name(name):
                age_s = (wall_ns - stat.mtime_ns) / 1e9
                self._files[name] = _File(stat, now - max(age_s, 0))
        due = sorted((name for name in self._files if self._is_due(name, now)), key=lambda name: (self._files[name].stat.mtime_ns, name))
        return [self._settle(name) for name in due]

    def update(self, stats: Mapping[str, FileStat], now: float) -> list[FileStable | FileRemoved]:
        """What has become true since the last listing. `stats` has every regular file of dist/."""
        events: list[FileStable | FileRemoved] = [
            self._forget(name) for name in list(self._files) if name not in stats and self._was_settled(name)
        ]
        self._files = {name: file for name, file in self._files.items() if name in stats}
        self._open &= stats.keys()
        for name, stat in stats.items():
            if is_pex_name(name):
                self._note(name, stat, now)
        return events + [self._settle(name) for name in sorted(self._files) if self._is_due(name, now)]

    def next_check_s(self) -> float | None:
        """When the next listing is worth making if no event comes before; None if there is nothing to wait for."""
        waiting = [file.since for name, file in self._files.items() if not file.settled and name not in self._open]
        return min(waiting) + self._stable_for_s if waiting else None

    def unstable_files(self) -> set[str]:
        """The files that are seen and not yet settled."""
        return {name for name, file in self._files.items() if not file.settled}

    def _note(self, name: str, stat: FileStat, now: float) -> None:
        file = self._files.get(name)
        if file is None:
            self._files[name] = _File(stat, now)
        elif file.stat != stat:
            self._files[name] = _File(stat, now, was_settled=file.was_settled)

    def _is_due(self, name: str, now: float) -> bool:
        file = self._files[name]
        return not file.settled and name not in self._open and now >= file.since + self._stable_for_s

    def _settle(self, name: str) -> FileStable:
        self._files[name].settled = self._files[name].was_settled = True
        return FileStable(name)

    def _was_settled(self, name: str) -> bool:
        return self._files[name].was_settled

    def _forget(self, name: str) -> FileRemoved:
        del self._files[name]
        return FileRemoved(name)
