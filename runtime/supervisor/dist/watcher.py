"""Watches dist/: turns inotify events and listings into events of stable and removed files. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import asyncinotify
from asyncinotify import Event, Inotify, Mask

from runtime.file_watch import explain_inotify_error, file_system, reports_changes
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
        self._timer: asyncio.TimerHandle | None = None
        self._watch: asyncinotify.Watch | None = None
        self._ignored: set[str] = set()  # names that look like a pex but are not a file
        self._has_links = False  # the folder or an entry is a symbolic link, and its target is not watched
        self._error = ""
        self._reported_unstable: set[str] | None = None

    async def run(self) -> None:
        """Watches until this is cancelled. If the folder becomes unusable later, the releases that were in it continue to serve.

        Raises:
            OSError: The folder can neither be read nor made at the start.
        """
        try:
            with self._open_inotify() as inotify:
                first = self._tracker.start(self._list_files(), time.monotonic(), time.time_ns())
                self._report(inotify, first)
                if inotify is None:
                    await asyncio.Event().wait()  # the timer does the rest
                    return
                async for event in inotify:
                    self._handle_event(event)
                    self._check(inotify)
        finally:
            if self._timer is not None:
                self._timer.cancel()

    @contextlib.contextmanager
    def _open_inotify(self) -> Iterator[Inotify | None]:
        """Yields inotify, which watches the folder; None if the folder must be polled.

        Raises:
            OSError: The folder cannot be made.
        """
        self._path.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            inotify, reason = None, "dist_poll is set"
            if not self._always_poll and not reports_changes(self._path):
                reason = f"its file system ({file_system(self._path)}) reports no changes"
            elif not self._always_poll:
                try:
                    inotify = stack.enter_context(Inotify())
                    self._add_watch(inotify)  # before the first listing, so that no change is missed between the two
                except OSError as exc:
                    inotify, reason = None, explain_inotify_error(exc)
            self._polls = inotify is None
            if self._polls:
                log.warning("%s is listed every %g s (dist_poll_s): %s", self._path, self._poll_s, reason)
            yield inotify

    def _add_watch(self, inotify: Inotify | None) -> None:
        """Watches the folder that the path names now. If it is already watched, this is one system call without effect."""
        self._path.mkdir(parents=True, exist_ok=True)
        if inotify is None:
            return
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

    def _check(self, inotify: Inotify | None, *, polled: bool = False) -> None:
        """Lists the folder and reports changes. Without `polled` there was an event, which may or may not concern a pex."""
        try:
            self._add_watch(inotify)
            found = self._list_files()
        except OSError as exc:
            self._log_error(f"cannot read {self._path}, retrying every {_POLL_S:g} s: {exc}")
            self._schedule_check(inotify, _POLL_S)
            return
        self._log_error("")
        self._report(inotify, self._tracker.update(found, time.monotonic()), polled=polled)

    def _log_error(self, error: str) -> None:
        if error != self._error:
            self._error = error
            log.error("%s", error) if error else log.info("%s can be read again", self._path)

    def _report(self, inotify: Inotify | None, events: Sequence[FileStable | FileRemoved], *, polled: bool = False) -> None:
        unstable = self._tracker.unstable_files()
        if not polled or events or unstable != self._reported_unstable:
            self._reported_unstable = unstable
            self._on_change(events, unstable)
        due = self._tracker.next_check_s()
        # Slightly late, since a check that is slightly early would need a second one.
        delays = [] if due is None else [due - time.monotonic() + 0.001]
        self._schedule_check(inotify, *delays, *([_POLL_S] if self._has_links else []), *([self._poll_s] if self._polls else []))

    def _schedule_check(self, inotify: Inotify | None, *delays_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        check = partial(self._check, inotify, polled=True)
        self._timer = asyncio.get_running_loop().call_later(min(delays_s), check) if delays_s else None

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
