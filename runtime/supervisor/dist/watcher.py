"""Watches dist/: turns inotify events and listings into events of stable and removed files. Runs in the supervisor.

All looks at the folder are on a thread, one at a time, since it may be on a file server that hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import asyncinotify
from asyncinotify import Event, Inotify, Mask

from runtime.blocking import BlockingThreads
from runtime.file_watch import MASK_ABOVE, explain_inotify_error, file_system, reports_changes
from runtime.pex.dist_file import remove_abandoned_files
from runtime.pex.names import has_pex_suffix, is_pex_name
from runtime.supervisor.dist.stability import FileRemoved, FileStable, FileStat, StabilityTracker

log = logging.getLogger(__name__)

_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.DELETE | Mask.CREATE | Mask.ATTRIB | Mask.MOVE_SELF | Mask.DELETE_SELF
) | Mask.ONLYDIR

_POLL_S = 2.0
"""Interval in seconds at which targets of links, and a dist/ that cannot be read, are polled: inotify watches a folder, not a path."""

OnChange = Callable[[Sequence[FileStable | FileRemoved], set[str]], None]


class DistWatcher:
    """Watches one folder, and makes it whenever it is missing.

    Args:
        path: The folder.
        stable_for_s: Time without a change after which a file counts as complete, in seconds.
        poll_s: Interval in seconds at which the folder is listed if the kernel does not report its changes.
        always_poll: Whether it is listed even if the kernel does.
        on_change: Called with the events and with the names of the files that are not stable yet: once at the start, after every event in
            the folder, and when polling has found a change.
    """

    def __init__(self, path: Path, stable_for_s: float, poll_s: float, on_change: OnChange, *, always_poll: bool = False) -> None:
        self._path = path
        self._tracker = StabilityTracker(stable_for_s)
        self._on_change = on_change
        self._poll_s, self._always_poll = poll_s, always_poll
        self._polls = False
        self._check_s: float | None = None  # time of the next check without an event, by the monotonic clock
        self._disk = BlockingThreads(1, f"dist_path ({path})")
        self._watch: asyncinotify.Watch | None = None
        self._watch_above: asyncinotify.Watch | None = None  # of its parent, which reports that it was removed
        self._ignored: set[str] = set()  # names that look like a pex but are not a file
        self._has_links = False  # the folder or an entry is a symbolic link, and its target is not watched
        self._error = ""
        self._reported_unstable: set[str] | None = None

    async def run(self) -> None:
        """Watches until this is cancelled. If the folder becomes unusable later, the releases that were in it continue to serve.

        Raises:
            OSError: The folder can neither be read nor made at the start.
        """
        with contextlib.ExitStack() as end:
            inotify = await self._disk.run(lambda: self._open_inotify(end))
            self._report(self._tracker.start(await self._disk.run(self._list_files), time.monotonic(), time.time_ns()))
            await self._check_always(inotify)

    async def _check_always(self, inotify: Inotify | None) -> None:
        """Checks the folder after each event, and at the times that earlier checks have set. Never reads events faster than it checks."""
        loop = asyncio.get_running_loop()
        next_event: asyncio.Future[Event] | None = None
        try:
            while True:
                if next_event is None or next_event.done():  # none ever comes if the folder is polled
                    next_event = loop.create_future() if inotify is None else loop.create_task(inotify.get())
                delay_s = None if self._check_s is None else max(0.0, self._check_s - time.monotonic())
                await asyncio.wait({next_event}, timeout=delay_s)
                event = next_event.result() if next_event.done() else None
                if event is None or event.watch is not self._watch_above or event.path == self._path:
                    await self._check(inotify, event)
        finally:
            if next_event is not None:
                next_event.cancel()

    def _open_inotify(self, end: contextlib.ExitStack) -> Inotify | None:
        """Returns inotify, which watches the folder until `end`; None if the folder must be polled.

        Raises:
            OSError: The folder cannot be made.
        """
        if not self._path.is_dir():
            self._path.mkdir(parents=True, exist_ok=True)
            log.warning("%s did not exist, and was made; set dist_path if the pexes are in another folder", self._path)
        remove_abandoned_files(self._path)
        reason = "dist_poll is set"
        if not self._always_poll and not reports_changes(self._path):
            reason = f"its file system ({file_system(self._path)}) reports no changes"
        elif not self._always_poll:
            try:
                inotify = end.enter_context(Inotify())
                self._add_watch(inotify)  # before the first listing, so that no change is missed between the two
            except OSError as exc:
                reason = explain_inotify_error(exc)
            else:
                return inotify
        self._polls = True
        log.warning("%s is listed every %g s (dist_poll_s): %s", self._path, self._poll_s, reason)
        return None

    def _add_watch(self, inotify: Inotify | None) -> None:
        """Watches the folder that the path names now. If it is already watched, this is one system call without effect."""
        self._path.mkdir(parents=True, exist_ok=True)
        if inotify is None:
            return
        with contextlib.suppress(PermissionError):  # without it, the removal of a folder that is in use is noticed late
            self._watch_above = inotify.add_watch(self._path.parent, MASK_ABOVE)
        before, self._watch = self._watch, inotify.add_watch(self._path, _MASK)
        if before is not None and before is not self._watch:
            log.warning("%s was replaced by another folder", self._path)
            with contextlib.suppress(OSError):  # the watch was removed with its folder
                inotify.rm_watch(before)

    def _handle_event(self, event: Event) -> None:
        if Mask.Q_OVERFLOW in event.mask:
            self._tracker.on_events_lost()
        elif event.name is not None and event.watch is self._watch:
            name = event.name.name
            if Mask.CREATE in event.mask and _is_being_written(self._path / name):
                self._tracker.on_created(name)
            elif event.mask & (Mask.CLOSE_WRITE | Mask.MOVED_TO):
                self._tracker.on_closed(name)

    async def _check(self, inotify: Inotify | None, event: Event | None) -> None:
        """Lists the folder and reports changes. An event may or may not concern a pex."""
        try:
            found = await self._disk.run(lambda: self._look(inotify, event))
        except OSError as exc:
            self._log_error(f"cannot read {self._path}, retrying every {_POLL_S:g} s: {exc}")
            self._check_s = time.monotonic() + _POLL_S
            return
        self._log_error("")
        self._report(self._tracker.update(found, time.monotonic()), polled=event is None)

    def _look(self, inotify: Inotify | None, event: Event | None) -> dict[str, FileStat]:
        if event is not None:
            self._handle_event(event)
        self._add_watch(inotify)
        return self._list_files()

    def _log_error(self, error: str) -> None:
        if error != self._error:
            self._error = error
            log.error("%s", error) if error else log.info("%s can be read again", self._path)

    def _report(self, events: Sequence[FileStable | FileRemoved], *, polled: bool = False) -> None:
        unstable = self._tracker.unstable_files()
        if not polled or events or unstable != self._reported_unstable:
            self._reported_unstable = unstable
            self._on_change(events, unstable)
        due_s, now_s = self._tracker.next_check_s(), time.monotonic()
        # Slightly late, since a check that is slightly early would need a second one.
        times = [] if due_s is None else [due_s + 0.001]
        times += [now_s + interval_s for interval_s, needed in ((_POLL_S, self._has_links), (self._poll_s, self._polls)) if needed]
        self._check_s = min(times, default=None)

    def _list_files(self) -> dict[str, FileStat]:
        """Returns the regular files, including the targets of links.

        Raises:
            OSError: The folder cannot be listed, or not be searched.
        """
        os.stat(f"{self._path}/.")  # fails without permission to search, where no file could be told from a removed one
        found, ignored = {}, set()
        self._has_links = self._path.is_symlink()
        for entry in os.scandir(self._path):
            if has_pex_suffix(entry.name):
                self._has_links |= entry.is_symlink()
                result = _stat(entry)
                if result is not None and stat.S_ISREG(result.st_mode) and is_pex_name(entry.name):
                    found[entry.name] = FileStat.from_stat(result)
                else:
                    ignored.add(entry.name)
        for name in ignored - self._ignored:
            log.warning("%s is ignored: it is not a regular file, or its name is not printable", ascii(name))
        self._ignored = ignored
        return found


def _stat(entry: os.DirEntry[str]) -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # removed since it was listed, or a dangling link
        return None


def _is_being_written(path: Path) -> bool:
    """Returns whether a close event will follow. A hard or symbolic link is complete from the beginning and is never closed."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1
