"""Publishes the state of a supervisor to the state file, to followers, and once to the terminal."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
from collections.abc import Callable

from base.ipc.front_door_control import RoutingTable
from runtime.blocking import BlockingThreads
from runtime.supervisor.host.run_dir import RunDir
from runtime.supervisor.status.banner import announce
from runtime.supervisor.status.state import State
from runtime.supervisor.status.state_feed import StateFeed
from runtime.supervisor.status.state_file import state_path, write_state

log = logging.getLogger(__name__)

_RETRY_S = 2.0


class StatePublisher:
    """Writes the state file whenever the state has changed, wakes followers, and announces the end of the start.

    A thread writes the file. A state that changes meanwhile is written afterwards, if it has not changed again by then.

    Args:
        own: Folder of the state file.
        current: Returns the current state.
        show: Prints the announcement.

    Attributes:
        feed: Followers of the state.
    """

    def __init__(self, own: RunDir, current: Callable[[], State], show: Callable[[str], None]) -> None:
        self._run_dir = own
        self._current = current
        self._show: Callable[[str], None] | None = show
        self._published: State | None = None
        self._disk = BlockingThreads(1, f"run_path ({own.path})")
        self._unwritten: State | None = None  # the state to write next
        self._writing: asyncio.Task[None] | None = None
        self._announcing: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None  # while the state file could not be written
        self._finished = False
        self.feed = StateFeed()

    @property
    def is_announced(self) -> bool:
        """Returns whether the start is over and was announced."""
        return self._show is None

    def publish(self) -> None:
        """Publishes the current state if it has changed."""
        state = self._current()
        if state != self._published:
            self._published = state
            self.feed.notify()
            self._write(state)

    async def restore_file(self) -> None:
        """Writes the state file again if it was removed."""
        if not await self._disk.run(state_path(self._run_dir.path).exists) and self._published is not None:
            self._write(self._published)

    def announce(self, table: RoutingTable) -> None:
        """Prints the announcement, on a thread, since nobody may read it. Idempotent."""
        if self._show is not None:
            text, show = announce(self._current(), table.routes), self._show
            self._show = None
            self._announcing = asyncio.get_running_loop().create_task(BlockingThreads(1).run(lambda: show(text)))

    async def finish(self) -> None:
        """Waits until the file is no longer being written. It is not written again."""
        self._finished, self._unwritten = True, None
        if self._retry is not None:
            self._retry.cancel()
        if self._writing is not None:
            await self._writing

    def _write(self, state: State) -> None:
        """Starts to write the state file, or notes that it has to be written again."""
        if self._finished:
            return
        self._unwritten = state
        if self._writing is None or self._writing.done():
            self._writing = asyncio.get_running_loop().create_task(self._write_until_current())

    async def _write_until_current(self) -> None:
        """Writes the state file. Retries after an error, since a full disk must not stop the service, and the next change may be late."""
        while (state := self._unwritten) is not None:
            self._unwritten = None
            has_failed = self._retry is not None
            if self._retry is not None:
                self._retry.cancel()
                self._retry = None
            try:
                await self._disk.run(functools.partial(self._write_file, state))
            except OSError as exc:
                if not has_failed:
                    log.error("cannot write the state file, will retry: %s", exc)  # noqa: TRY400 - the reason is complete
                self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._write, state)

    def _write_file(self, state: State) -> None:
        if not self._run_dir.is_present:
            raise FileNotFoundError(errno.ENOENT, "the run directory was removed", str(self._run_dir.path))
        write_state(self._run_dir.path, state)
