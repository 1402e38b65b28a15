"""Watches files that operators may replace or remove while Pexdock runs: keys, lists, certificates and logs.

It uses inotify, and no timer. Files are polled only where the kernel reports no changes: on a file system of another machine, or if the
limits of inotify are reached. All looks at the files are on a thread, since a file server may hang.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

from base.telemetry.append_log import STDOUT
from runtime.blocking import BlockingThreads

log = logging.getLogger(__name__)

_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE | Mask.ATTRIB | Mask.MOVE_SELF | Mask.DELETE_SELF
) | Mask.ONLYDIR

MASK_ABOVE = Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE | Mask.ONLYDIR
"""Events by which a folder reports that one in it was removed or replaced. That one itself is silent while it is in use, for example by a
socket."""

POLL_S = 10.0
"""Interval in seconds at which files are polled."""

_ROTATION_S = 1.0
"""Delay in seconds before a log file is opened again: `logrotate` renames it, and then creates the new one itself."""

_REPORTING = frozenset(
    {
        *("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "nilfs2", "reiserfs", "tmpfs", "overlay", "aufs"),
        *("squashfs", "erofs", "iso9660", "vfat", "exfat", "ntfs3"),
    }
)
"""File systems of which this kernel sees every change. Others, such as NFS, 9p, virtiofs and FUSE, may be changed elsewhere."""


def explain_inotify_error(error: OSError) -> str:
    """Returns why inotify cannot be used, and what to do if a limit of the kernel is reached."""
    reached = error.errno in {errno.EMFILE, errno.ENOSPC}
    advice = "; raise fs.inotify.max_user_instances and fs.inotify.max_user_watches with sysctl" if reached else ""
    return f"inotify cannot be used: {error.strerror or error}{advice}"


def file_system(path: Path) -> str:
    """Returns the type of the file system that a folder is on. If several are mounted at one place, the last is in effect."""
    found, best = "", -1
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, *_ = line.split(" ")
        mount = Path(where.replace("\\040", " "))
        if path.resolve().is_relative_to(mount) and len(mount.parts) >= best:
            found, best = kind, len(mount.parts)
    return found


def reports_changes(path: Path) -> bool:
    """Returns whether the kernel reports every change of a folder."""
    return file_system(path) in _REPORTING


class FileWatch:
    """Watches the folders of a few files: those in the paths, and those to which symbolic links lead.

    Orchestrators replace a mounted secret by pointing a link at another folder, and the file itself does not change.

    Args:
        paths: Files, or folders of files, which need not exist yet.
        on_change: Called, and awaited if it must be, when one of them may have changed. It must compare the content itself.
    """

    def __init__(self, paths: Sequence[Path], on_change: Callable[[], Awaitable[object] | None]) -> None:
        self._paths = paths
        self._on_change = on_change
        self._disk = BlockingThreads(1, ", ".join(map(str, paths)))
        self._wanted: set[Path] = set()
        self._watches: dict[Path, Watch] = {}

    async def run(self) -> None:
        """Watches until this is cancelled. Polls if the kernel does not report changes."""
        if not await self._disk.run(self._must_poll):
            await self._watch()
        while True:
            await self._notify()
            await asyncio.sleep(POLL_S)

    def _must_poll(self) -> bool:
        silent = [folder for path in self._paths for folder in _folders(path) if not reports_changes(folder)]
        if silent:
            log.info("%s is polled every %g s, since its file system (%s) reports no changes", silent[0], POLL_S, file_system(silent[0]))
        return bool(silent)

    async def _watch(self) -> None:
        """Watches until this is cancelled; returns if the limits of inotify are reached."""
        try:
            with Inotify() as inotify:
                await self._disk.run(lambda: self._follow(inotify))
                await self._notify()  # the files may have changed before the watch began
                async for event in inotify:
                    if self._matters(event):
                        await self._disk.run(lambda: self._follow(inotify))
                        await self._notify()
        except OSError as exc:
            names = ", ".join(map(str, self._paths))
            log.warning("%s: polled every %g s, since %s", names, POLL_S, explain_inotify_error(exc))

    def _matters(self, event: Event) -> bool:
        """Returns whether an event concerns one of the folders, rather than another one beside it."""
        return event.path is None or not self._wanted.isdisjoint((event.path, event.path.parent))

    async def _notify(self) -> None:
        if (reaction := self._on_change()) is not None:
            await reaction

    def _follow(self, inotify: Inotify) -> None:
        """Watches the folders that the paths lead to now and those above them, and no others."""
        self._wanted = {folder for path in self._paths for folder in _folders(path)}
        above = {folder.parent for folder in self._wanted} - self._wanted
        watches = {}
        for folder in [*self._wanted, *above]:
            try:  # if the folder is watched already, this is one system call without effect
                watches[folder] = inotify.add_watch(folder, MASK_ABOVE if folder in above else _MASK)
            except OSError as exc:  # the folder is not readable, or was removed meanwhile, which its parent's watch reports
                if exc.errno == errno.ENOSPC:
                    raise
                if folder in self._wanted:
                    log.warning("%s cannot be watched: %s", folder, exc.strerror or exc)
        for watch in {*self._watches.values()} - {*watches.values()}:
            with contextlib.suppress(OSError):  # the kernel has ended it with its folder
                inotify.rm_watch(watch)
        self._watches = watches


async def watch_log(path: str, reopen: Callable[[], None]) -> None:
    """Calls `reopen` a moment after a log file may have been renamed or removed, which frees its space even if nothing is logged.

    Runs until it is cancelled; returns at once if the log is the standard output, a device or a pipe.
    """
    file = Path(path)
    if path == STDOUT or await asyncio.to_thread(lambda: file.exists() and not file.is_file()):
        return
    changed = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(FileWatch([file], changed.set).run())
        while True:
            await changed.wait()
            await asyncio.sleep(_ROTATION_S)
            changed.clear()
            reopen()


def _folders(path: Path) -> set[Path]:
    """Returns the folders whose events reveal a change of `path`."""
    named = [path.parent, path.resolve().parent, path] if path.is_dir() else [path.parent, path.resolve().parent]
    return {_existing(folder).resolve() for folder in named}


def _existing(folder: Path) -> Path:
    """Returns the folder if it exists, or else its closest existing parent, in which it will appear."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
