"""One connection between a front door and a worker: whole messages, now and then with a descriptor."""

from __future__ import annotations

import os
import socket
from typing import NamedTuple

from base.errors import PeerError
from base.ipc.protocol import MESSAGE_MAX_BYTES, Message, pack, unpack

_DESCRIPTORS_MAX = 1


class Received(NamedTuple):
    """A message, and the descriptor that came with it. Whoever receives it owns it."""

    message: Message
    fd: int | None


class Channel:
    """A connected SOCK_SEQPACKET socket. Waits for nothing by itself: the owner polls `fileno()`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)

    @staticmethod
    def connect(path: str) -> Channel:
        """A channel to the worker that listens at `path`.

        Raises:
            OSError: nobody listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.connect(path)
        except OSError:
            sock.close()
            raise
        return Channel(sock)

    def fileno(self) -> int:
        """For selectors."""
        return self._socket.fileno()

    def send(self, message: Message, fd: int | None = None) -> None:
        """Sends one message, with a descriptor if one is given (it stays the caller's).

        Raises:
            PeerError: the other side is gone, or has not read for so long that the socket is full. Close the channel.
        """
        data = pack(message)
        try:
            if fd is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [fd])
        except OSError as exc:
            raise PeerError(f"the other side of a channel cannot be reached: {exc}") from exc

    def receive_nowait(self) -> Received | None:
        """The next message, or None when there is none yet.

        Raises:
            PeerError: the other side is gone, or sent what is no message. Close the channel.
        """
        try:
            data, fds, flags, _ = socket.recv_fds(self._socket, MESSAGE_MAX_BYTES, _DESCRIPTORS_MAX, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise PeerError(f"the other side of a channel is gone: {exc}") from exc
        try:
            if not data:
                raise PeerError("the other side closed the channel")
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise PeerError("a message that is too long")
            message = unpack(data)
        except PeerError:
            for fd in fds:
                os.close(fd)
            raise
        return Received(message, fds[0] if fds else None)

    def close(self) -> None:
        """Closes; safe to call again."""
        self._socket.close()
