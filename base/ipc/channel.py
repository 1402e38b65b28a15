"""One connection between a front door and a worker: whole messages, now and then with a descriptor."""

from __future__ import annotations

import os
import socket
import struct

import msgspec

from base.errors import PeerError, PeerGone
from base.ipc.protocol import MESSAGE_MAX_BYTES, Message, pack_message, unpack_message
from base.process import peer_pid

_DESCRIPTOR = struct.Struct("=i")
_ANCILLARY_BYTES = socket.CMSG_LEN(_DESCRIPTOR.size)
"""Of one descriptor. Not CMSG_SPACE, whose padding would hold a second one."""

_CUT = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)


class ReceivedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message, and the descriptor that came with it. Whoever receives it owns it."""

    message: Message
    fd: int | None


class Channel:
    """A connected SOCK_SEQPACKET socket. Waits for nothing by itself: the owner polls `fileno()`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._buffer = bytearray(MESSAGE_MAX_BYTES)
        self._memory = memoryview(self._buffer)

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

    def peer_pid(self) -> int:
        """The process on the other side, for who has connected."""
        return peer_pid(self._socket)

    def send_message(self, message: Message, fd: int | None = None) -> None:
        """Sends one message, with a descriptor if one is given (it stays the caller's).

        Raises:
            PeerError: the other side is gone, or has not read for so long that the socket is full. Close the channel.
        """
        data = pack_message(message)
        try:
            if fd is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [fd])
        except OSError as exc:
            raise PeerGone(f"the other side of a channel cannot be reached: {exc}") from exc

    def receive_with_fd_nowait(self) -> ReceivedMessage | None:
        """The next message, or None when there is none yet.

        Raises:
            PeerError: the other side is gone, or sent what is no message. Close the channel.
        """
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise PeerGone(f"the other side of a channel is gone: {exc}") from exc
        fd = _descriptor(ancillary) if ancillary else None
        try:
            if flags & _CUT:
                raise PeerError("a message that is too long")
            return ReceivedMessage(self._unpacked(size), fd)
        except PeerError:
            if fd is not None:
                os.close(fd)
            raise

    def receive_without_fd_nowait(self) -> Message | None:
        """As `receive_nowait`, where no descriptor may come: one that does is closed by the kernel. Costs half as much.

        Raises:
            PeerError: as `receive_nowait`. PeerGone only once all that the other side has said was received.
        """
        try:
            size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # of a side that ended with something unread; said once, before what it had sent
            return self._rest()
        except OSError as exc:
            raise PeerGone(f"the other side of a channel is gone: {exc}") from exc
        if size > MESSAGE_MAX_BYTES:  # MSG_TRUNC: this is the length of what was cut
            raise PeerError("a message that is too long")
        return self._unpacked(size)

    def _rest(self) -> Message:
        try:
            return self._unpacked(self._socket.recv_into(self._buffer))
        except OSError as exc:
            raise PeerGone(f"the other side of a channel is gone: {exc}") from exc

    def _unpacked(self, size: int) -> Message:
        if not size:
            raise PeerGone("the other side closed the channel")
        return unpack_message(bytes(self._memory[:size]))

    def close(self) -> None:
        """Closes; safe to call again."""
        self._socket.close()


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """The descriptor that came with a message; the kernel has closed all that there was no room for."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= _DESCRIPTOR.size:
            return int(_DESCRIPTOR.unpack_from(data)[0])
    return None
