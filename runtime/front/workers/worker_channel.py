"""The front door's end of the channel to one worker, with the shared memory that both use."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from base.errors import PeerError, PeerGone, Unavailable
from base.ipc.channel import Channel
from base.ipc.control import WIRE_VERSION
from base.ipc.protocol import AttachSegment, DetachSegment, Hello, Message
from runtime.front.memory.budget import MemoryBudget
from runtime.front.memory.slots import SlotPool

_MESSAGES_PER_TURN = 32
"""Messages that are handled before other events: a worker could send them faster than they are handled."""


class WorkerChannel:
    """An open channel to a worker, and the slots that the worker may read and write.

    Args:
        path: Socket that the worker listens on.
        budget: Budget of the slots.
        on_message: Handles a message, and returns whether another message may follow.
        on_broken: Handles a channel that can no longer be used, and closes it. Its second argument is true if the worker is gone and all
            its messages were handled.

    Attributes:
        open: Whether the channel is open.
        worker_pid: Id of the process that listens on the socket.

    Raises:
        Unavailable: the worker cannot be reached.
        Full: the budget has no bytes left for the slots.
    """

    def __init__(
        self, path: str, budget: MemoryBudget, on_message: Callable[[Message], bool], on_broken: Callable[[PeerError, bool], None]
    ) -> None:
        self._budget = budget
        self._on_message = on_message
        self._on_broken = on_broken
        self.slots = SlotPool(budget)
        budget.reclaimers.add(self._reclaim)
        try:
            _refuse_shared_folder(Path(path))
            self._channel = Channel.connect(path)
        except OSError as exc:
            budget.reclaimers.discard(self._reclaim)
            self.slots.close()
            raise Unavailable(f"cannot connect to the worker at {path}: {exc}") from exc
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._on_readable)
        self.worker_pid = self._channel.peer_pid()
        self.open = True

    def send_hello(self) -> None:
        """Sends the first message, which must come before any announcement of segments."""
        try:
            self._channel.send_message(Hello(WIRE_VERSION))
        except PeerError as exc:
            self._on_broken(exc, False)

    def send_message(self, message: Message) -> None:
        """Announces new and removed segments, then sends a message. Closes the channel if the worker cannot be reached."""
        try:
            if self.slots.to_forget or self.slots.to_attach:
                self._announce_segments()
            self._channel.send_message(message)
        except PeerError as exc:
            self._on_broken(exc, False)

    def announce_forgotten(self) -> None:
        """Announces removed segments to the worker. Their memory is freed once it has unmapped them too."""
        try:
            while self.open and self.slots.to_forget:
                self._channel.send_message(DetachSegment(self.slots.to_forget[0]))
                del self.slots.to_forget[0]
        except PeerError as exc:
            self._on_broken(exc, False)

    def close(self) -> None:
        """Closes the channel and unmaps the slots."""
        self.open = False
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()
        self._budget.reclaimers.discard(self._reclaim)
        self.slots.close()

    def _announce_segments(self) -> None:
        self.announce_forgotten()
        for number, segment in self.slots.to_attach:
            self._channel.send_message(AttachSegment(number, segment.size), segment.fd)
        self.slots.to_attach.clear()

    def _reclaim(self) -> None:
        self.slots.drop_spare_segments()
        self.announce_forgotten()

    def _on_readable(self) -> None:
        try:
            for _ in range(_MESSAGES_PER_TURN):  # the loop calls again for the rest
                message = self._channel.receive_without_fd_nowait()
                if message is None or not self._on_message(message):  # another read would find nothing
                    break
        except PeerError as exc:
            self._on_broken(exc, isinstance(exc, PeerGone))


def _refuse_shared_folder(path: Path) -> None:
    """Checks that no other user can have put a socket at `path`, for example after the folder was removed from /tmp.

    Raises:
        OSError: Neither the folder nor the one around it belongs to this user alone.
    """
    for folder in (path.parent, path.parent.parent):  # a worker with a user of its own has its own folder in one of ours
        found = folder.stat()
        if found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return
    raise PermissionError(errno.EPERM, f"{path.parent} is not a folder of this user alone")
