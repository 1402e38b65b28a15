"""Files that operators may replace while Pexdock runs: keys, lists, certificates. Says when one may have changed; nothing ticks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from asyncinotify import Event, Inotify, Mask, Watch

log = logging.getLogger(__name__)

_MASK = (
    Mask.CLOSE_WRITE | Mask.MOVED_TO | Mask.MOVED_FROM | Mask.CREATE | Mask.DELETE | Mask.ATTRIB | Mask.MOVE_SELF | Mask.DELETE_SELF
) | Mask.ONLYDIR


class FileWatch:
    """Watches the folders in which a few files lie, both where they are named and where links lead.

    Orchestrators replace mounted secrets by turning a link to a folder round, so that nothing happens to the file itself.

    Args:
        paths: files, or folders of files, which need not be there yet.
        changed: called when something has happened near one of them; whoever is called compares.
    """

    def __init__(self, paths: Sequence[Path], changed: Callable[[], None]) -> None:
        self._paths = paths
        self._changed = changed
        self._watches: dict[Path, Watch] = {}

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            with Inotify() as inotify:
                self._follow(inotify)
                self._changed()  # what happened before the watch began
                async for event in inotify:
                    self._forget(inotify, event)
                    self._follow(inotify)
                    self._changed()
        except OSError as exc:  # no descriptors left; what was read of the files stays in force
            log.error("changes of %s are not seen: %s", ", ".join(map(str, self._paths)), exc.strerror or exc)  # noqa: TRY400

    def _forget(self, inotify: Inotify, event: Event) -> None:
        """A folder that was moved is no longer where it is named; the kernel ends the watch of one that was removed."""
        gone = [folder for folder, watch in self._watches.items() if watch is event.watch]
        for folder in gone:
            if Mask.MOVE_SELF in event.mask:
                self._end(inotify, folder)
            elif Mask.IGNORED in event.mask:
                del self._watches[folder]

    def _follow(self, inotify: Inotify) -> None:
        """Watch what is named now, and no more what was."""
        wanted = {folder for path in self._paths for folder in _folders(path)}
        for folder in self._watches.keys() - wanted:
            self._end(inotify, folder)
        for folder in wanted - self._watches.keys():
            try:
                self._watches[folder] = inotify.add_watch(folder, _MASK)
            except OSError as exc:  # gone since it was looked up, which its parent's watch tells, or closed to us
                log.warning("%s cannot be watched: %s", folder, exc.strerror or exc)

    def _end(self, inotify: Inotify, folder: Path) -> None:
        with contextlib.suppress(OSError):  # the kernel has ended it already, and IGNORED is on its way
            inotify.rm_watch(self._watches.pop(folder))


def _folders(path: Path) -> set[Path]:
    """Where something happens when the content of `path` becomes another."""
    named = [path.parent, path.resolve().parent, path] if path.is_dir() else [path.parent, path.resolve().parent]
    return {_existing(folder).resolve() for folder in named}


def _existing(folder: Path) -> Path:
    """The folder, or the next above it that is there: in it the missing one will appear."""
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    return folder
