"""The eyes on dist/: inotify events and listings become events of the registry. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from asyncinotify import Event, Inotify, Mask

from runtime.supervisor.registry import Registry, Settled, Stat, Vanished

log = logging.getLogger(__name__)

_MASK = Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CREATE | Mask.MOVE_SELF | Mask.DELETE_SELF | Mask.ONLYDIR

Notify = Callable[[Sequence[Settled | Vanished], set[str]], None]


class Watch:
    """Watches one folder, which it makes where it is missing, also later on.

    Args:
        path: the folder.
        settle_s: how long a file must stand still.
        notify: called with what has happened and with the names of the files that have not settled yet; at once at the start.
    """

    def __init__(self, path: Path, settle_s: float, notify: Notify) -> None:
        self._path = path
        self._registry = Registry(settle_s)
        self._notify = notify
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Until it is cancelled.

        Raises:
            OSError: the folder can neither be read nor made.
        """
        try:
            with Inotify() as inotify:
                self._add(inotify)  # before the first listing, so that nothing falls between the two
                first = self._registry.first(self._list(), time.monotonic(), time.time_ns())
                self._tell(first)
                async for event in inotify:
                    self._take(inotify, event)
                    self._look()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _add(self, inotify: Inotify) -> None:
        self._path.mkdir(parents=True, exist_ok=True)
        inotify.add_watch(self._path, _MASK)

    def _take(self, inotify: Inotify, event: Event) -> None:
        if Mask.IGNORED in event.mask:
            log.warning("%s is gone; it is made anew", self._path)
            self._add(inotify)
        elif Mask.MOVE_SELF in event.mask and event.watch is not None:
            inotify.rm_watch(event.watch)  # IGNORED follows
        elif event.name is not None:
            self._take_name(event.mask, event.name.name)

    def _take_name(self, mask: Mask, name: str) -> None:
        if Mask.CREATE in mask and _is_being_written(self._path / name):
            self._registry.opened(name)
        elif mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
            self._registry.closed(name)

    def _look(self) -> None:
        self._tell(self._registry.listing(self._list(), time.monotonic()))

    def _tell(self, events: Sequence[Settled | Vanished]) -> None:
        self._notify(events, self._registry.unsettled())
        if self._timer is not None:
            self._timer.cancel()
        due = self._registry.due()
        # A little late rather than a little early, which would make it look twice.
        self._timer = None if due is None else asyncio.get_running_loop().call_later(due - time.monotonic() + 0.001, self._look)

    def _list(self) -> dict[str, Stat]:
        """The regular files, also those behind links."""
        found = {}
        try:
            for entry in os.scandir(self._path):
                with_stat = _stat(entry)
                if with_stat is not None and stat.S_ISREG(with_stat.st_mode):
                    found[entry.name] = Stat.of(with_stat)
        except FileNotFoundError:
            pass  # the event that says so is on its way
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
