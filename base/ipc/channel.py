"""One connection between a front door and a worker: sends and receives whole messages, some of them with a descriptor."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from base.errors import PeerError, PeerGone
from base.ipc.protocol import MESSAGE_MAX_BYTES, Message, pack_message, unpack_message
from base.process import peer_pid

_DESCRIPTOR = struct.Struct("=i")
_ANCILLARY_BYTES = socket.CMSG_LEN(_DESCRIPTOR.size)
"""Size of one descriptor. Not CMSG_SPACE, whose padding would have space for a second one."""

_TRUNCATED = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_CLOSE_ON_EXEC = int(socket.MSG_CMSG_CLOEXEC)


class ReceivedMessage(msgspec.Struct, frozen=True, gc=False):
    """A message and the descriptor that came with it. The receiver owns the descriptor."""

    message: Message
    fd: int | None


_ADDRESS_MAX_BYTES = 107


@contextmanager
def socket_address(path: str) -> Iterator[str]:
    """Yields a path to the same socket that the kernel accepts, which refuses one of more than 107 bytes.

    Raises:
        OSError: The path is that long, and its folder cannot be opened.
    """
    if len(os.fsencode(path)) <= _ADDRESS_MAX_BYTES:
        yield path
        return
    folder, name = os.path.split(path)
    descriptor = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{name}"
    finally:
        os.close(descriptor)


class Channel:
    """A connected SOCK_SEQPACKET socket. Never blocks: the owner polls `fileno()`."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._buffer = bytearray(MESSAGE_MAX_BYTES)
        self._memory = memoryview(self._buffer)

    @staticmethod
    def connect(path: str) -> Channel:
        """Returns a channel to the worker that listens at `path`.

        Raises:
            OSError: No process listens there.
        """
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with socket_address(path) as address:
                sock.connect(address)
        except OSError:
            sock.close()
            raise
        return Channel(sock)

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self._socket.fileno()

    def peer_pid(self) -> int:
        """Returns the process id of the other side. Valid on the side that connected."""
        return peer_pid(self._socket)

    def send_message(self, message: Message, fd: int | None = None) -> None:
        """Sends one message, and the descriptor if one is given. The caller still owns the descriptor.

        Raises:
            PeerError: The other side is gone, or has not read for so long that the socket is full. Close the channel.
        """
        data = pack_message(message)
        try:
            if fd is None:
                self._socket.send(data)
            else:
                socket.send_fds(self._socket, [data], [fd])
        except OSError as exc:
            raise PeerGone(f"cannot send to the other side of the channel: {exc}") from exc

    def receive_with_fd_nowait(self) -> ReceivedMessage | None:
        """Returns the next message, or None if there is none yet.

        Raises:
            PeerError: The other side is gone, or sent something that is not a message. Close the channel.
        """
        try:
            size, ancillary, flags, _ = self._socket.recvmsg_into([self._buffer], _ANCILLARY_BYTES, _CLOSE_ON_EXEC)
        except BlockingIOError:
            return None
        except OSError as exc:
            raise PeerGone(f"the other side of the channel is gone: {exc}") from exc
        fd = _descriptor(ancillary) if ancillary else None
        try:
            if flags & _TRUNCATED:
                raise PeerError(f"a message is over {MESSAGE_MAX_BYTES} bytes")
            return ReceivedMessage(self._unpack(size), fd)
        except PeerError:
            if fd is not None:
                os.close(fd)
            raise

    def receive_without_fd_nowait(self) -> Message | None:
        """Returns the next message, or None, in half the time of `receive_with_fd_nowait`. The kernel closes its descriptor, if any.

        Raises:
            PeerError: As `receive_with_fd_nowait`. PeerGone is raised only after everything that the other side has sent was received.
        """
        try:
            size = self._socket.recv_into(self._buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError:
            return None
        except ConnectionResetError:  # the other side exited without reading everything; reported once, before its last messages
            return self._receive_rest()
        except OSError as exc:
            raise PeerGone(f"the other side of the channel is gone: {exc}") from exc
        if size > MESSAGE_MAX_BYTES:  # MSG_TRUNC: this is the length of what was cut
            raise PeerError(f"a message is over {MESSAGE_MAX_BYTES} bytes")
        return self._unpack(size)

    def _receive_rest(self) -> Message:
        try:
            return self._unpack(self._socket.recv_into(self._buffer))
        except OSError as exc:
            raise PeerGone(f"the other side of the channel is gone: {exc}") from exc

    def _unpack(self, size: int) -> Message:
        if not size:
            raise PeerGone("the other side disconnected")
        return unpack_message(bytes(self._memory[:size]))

    def close(self) -> None:
        """Closes the channel. Idempotent."""
        self._socket.close()


def _descriptor(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    """Returns the descriptor that came with a message. The kernel has closed those for which there was no space."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= _DESCRIPTOR.size:
            return int(_DESCRIPTOR.unpack_from(data)[0])
    return None
