"""The supervisor's end of the control socket of one child, on the event loop. Never blocks."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable

from base.errors import PeerError
from base.ipc.control import ControlMessage, ControlStream, encode_message
from base.ipc.front_door_control import ModelStates, RoutingTable

log = logging.getLogger(__name__)

_READ_BYTES = 64 * 1024


class ControlSocket:
    """Sends and receives the control messages of one child.

    Args:
        peer: Name of the child, for the log.
        on_message: Called with each message, in order. A PeerError that it raises makes the message invalid.
        on_disconnect: Called when the child has closed its end.
        on_invalid: Called when the child has sent something invalid. No further message is read.
    """

    def __init__(
        self, peer: str, on_message: Callable[[ControlMessage], None], on_disconnect: Callable[[], None], on_invalid: Callable[[], None]
    ) -> None:
        self._peer = peer
        self._on_message, self._on_disconnect, self._on_invalid = on_message, on_disconnect, on_invalid
        self._stream = ControlStream()
        self._unsent: deque[ControlMessage] = deque()
        self._sending = memoryview(b"")
        self._socket: socket.socket | None = None

    def open(self) -> socket.socket:
        """Makes the pair of sockets. Returns the child's end, which the caller closes once the child has inherited it."""
        self._loop = asyncio.get_running_loop()
        self._socket, theirs = socket.socketpair()
        return theirs

    def start(self) -> None:
        """Starts to read messages."""
        assert self._socket is not None
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket.fileno(), self.read_once)

    def send(self, message: ControlMessage) -> None:
        """Queues a message. A table or states replace unsent ones, so that the queue of a child that does not read cannot grow."""
        if isinstance(message, RoutingTable | ModelStates):
            self._unsent = deque(waiting for waiting in self._unsent if type(waiting) is not type(message))
        self._unsent.append(message)
        if self._socket is not None:
            self._write()

    def read_once(self) -> bool:
        """Reads once. Returns False if no more data is available at the moment."""
        assert self._socket is not None
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # reset, because the child died with unread messages
            data = b""
        if not data:
            self._loop.remove_reader(self._socket.fileno())
            self._on_disconnect()
            return False
        return self._dispatch(data)

    def close(self) -> None:
        """Closes this end. Idempotent."""
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _dispatch(self, data: bytes) -> bool:
        assert self._socket is not None
        try:
            for message in self._stream.feed_bytes(data):
                self._on_message(message)
        except PeerError as exc:
            log.warning("%s sent an invalid control message and is stopped: %s", self._peer, exc)
            self._loop.remove_reader(self._socket.fileno())
            self._on_invalid()
            return False
        return True

    def _write(self) -> None:
        assert self._socket is not None
        try:
            while self._sending or self._unsent:
                self._sending = self._sending or memoryview(encode_message(self._unsent.popleft()))
                self._sending = self._sending[self._socket.send(self._sending) :]
        except BlockingIOError:
            self._loop.add_writer(self._socket.fileno(), self._write)
            return
        except OSError:  # the child is gone, and its exit will be noticed soon
            self._unsent.clear()
            self._sending = memoryview(b"")
        self._loop.remove_writer(self._socket.fileno())
