"""The eyes on dist/: inotify events and listings become events of the registry. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import asyncinotify
from asyncinotify import Event, Inotify, Mask

from runtime.supervisor.dist.stability import StabilityTracker, FileStable, FileStat, FileRemoved
from runtime.pex.names import has_pex_suffix, is_pex_name

log = logging.getLogger(__name__)

_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CREATE | Mask.ATTRIB | Mask.MOVE_SELF | Mask.DELETE_SELF
) | Mask.ONLYDIR

_LOOK_AGAIN_S = 2.0
"""inotify tells of a folder, not of a path: where links lead, and whether a dist/ that cannot be read can again, is looked for."""

Notify = Callable[[Sequence[FileStable | FileRemoved], set[str]], None]


class DistWatcher:
    """Watches one folder, which it makes where it is missing, also later on.

    Args:
        path: the folder.
        stable_for_s: how long a file must stand still.
        notify: called with what has happened and with the names of the files that have not settled yet: at once at the start, whenever
            something has happened in the folder, and when a look at where links lead has found something.
    """

    def __init__(self, path: Path, stable_for_s: float, notify: Notify) -> None:
        self._path = path
        self._registry = StabilityTracker(stable_for_s)
        self._notify = notify
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncinotify.Watch | None = None
        self._odd: set[str] = set()  # names that look like a pex of what is no file
        self._linked = False  # something in it leads elsewhere
        self._trouble = ""
        self._told: set[str] | None = None  # the files that had not settled when somebody was told last

    async def run(self) -> None:
        """Until it is cancelled. A folder that cannot be used later on is waited for: what it held serves on.

        Raises:
            OSError: the folder can neither be read nor made at the start.
        """
        try:
            with Inotify() as inotify:
                self._aim(inotify)  # before the first listing, so that nothing falls between the two
                first = self._registry.start(self._list(), time.monotonic(), time.time_ns())
                self._tell(inotify, first)
                async for event in inotify:
                    self._take(event)
                    self._look(inotify)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _aim(self, inotify: Inotify) -> None:
        """Have inotify look at what the path names now. For a folder that it looks at already this is one call that does nothing."""
        self._path.mkdir(parents=True, exist_ok=True)
        before, self._watch = self._watch, inotify.add_watch(self._path, _MASK)
        if before is not None and before is not self._watch:
            log.warning("%s is another folder now", self._path)
            with contextlib.suppress(OSError):  # it went with its folder
                inotify.rm_watch(before)

    def _take(self, event: Event) -> None:
        if Mask.Q_OVERFLOW in event.mask:
            self._registry.on_events_lost()
        elif event.name is not None and event.watch is self._watch:
            self._take_name(event.mask, event.name.name)

    def _take_name(self, mask: Mask, name: str) -> None:
        if Mask.CREATE in mask and _is_being_written(self._path / name):
            self._registry.on_created(name)
        elif mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
            self._registry.on_closed(name)

    def _look(self, inotify: Inotify, *, told: bool = True) -> None:
        """Lists the folder; `told` that something has happened, which need not be a pex."""
        try:
            self._aim(inotify)
            found = self._list()
        except OSError as exc:
            self._say(f"{self._path} cannot be read, and is tried again: {exc}")
            self._look_again(inotify, _LOOK_AGAIN_S)
            return
        self._say("")
        self._tell(inotify, self._registry.update(found, time.monotonic()), told=told)

    def _say(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            log.error("%s", trouble) if trouble else log.info("%s can be read again", self._path)

    def _tell(self, inotify: Inotify, events: Sequence[FileStable | FileRemoved], *, told: bool = True) -> None:
        unsettled = self._registry.unstable_files()
        if told or events or unsettled != self._told:
            self._told = unsettled
            self._notify(events, unsettled)
        due = self._registry.next_check_s()
        # A little late rather than a little early, which would make it look twice.
        delays = [] if due is None else [due - time.monotonic() + 0.001]
        self._look_again(inotify, *delays, *([_LOOK_AGAIN_S] if self._linked else []))

    def _look_again(self, inotify: Inotify, *delays_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        look = partial(self._look, inotify, told=False)
        self._timer = asyncio.get_running_loop().call_later(min(delays_s), look) if delays_s else None

    def _list(self) -> dict[str, FileStat]:
        """The regular files, also those behind links.

        Raises:
            OSError: the folder cannot be read.
        """
        found, odd = {}, set()
        self._linked = self._path.is_symlink()
        for entry in os.scandir(self._path):
            if has_pex_suffix(entry.name):
                self._linked |= entry.is_symlink()
                with_stat = _stat(entry)
                if with_stat is not None and stat.S_ISREG(with_stat.st_mode) and is_pex_name(entry.name):
                    found[entry.name] = FileStat.from_stat(with_stat)
                else:
                    odd.add(entry.name)
        for name in odd - self._odd:
            log.warning("%s is left alone: it is no file that can be found, or its name is not printable", ascii(name))
        self._odd = odd
        return found


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # gone since it was listed, or a link to nowhere
        return None


def _is_being_written(path: Path) -> bool:
    """Whether a close will follow. A link, hard or symbolic, is whole from the beginning and never closed."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
