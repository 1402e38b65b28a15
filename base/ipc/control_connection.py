"""One end of a control socket in a process without an event loop: a thread reads its messages, and any thread may send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

from base.errors import PeerError
from base.ipc.control import ControlMessage, ControlStream, encode_message
from base.log import get_logger

log = get_logger(__name__)

_READ_BYTES = 64 * 1024


class ControlConnection:
    """Reads messages from `start` to `close`.

    Args:
        control: The socket. It stays open; the caller closes it after `close`.
        peer: Name of the process at the other end, for the log.
        on_message: Called with each message on the thread that reads. A PeerError that it raises ends the reading.
        on_disconnect: Called once on that thread when the peer has closed its end or sent something invalid; not after `close`.
    """

    def __init__(
        self, control: socket.socket, peer: str, on_message: Callable[[ControlMessage], None], on_disconnect: Callable[[], None]
    ) -> None:
        self._control = control
        self._peer = peer
        self._on_message, self._on_disconnect = on_message, on_disconnect
        self._sending = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._read_messages, name=f"control of {peer}", daemon=True)

    def start(self) -> None:
        """Starts the thread that reads."""
        self._control.setblocking(True)
        self._thread.start()

    def send_message(self, message: ControlMessage) -> None:
        """Sends a message; blocks while the peer does not read. The thread that reads finds out that the peer is gone."""
        try:
            with self._sending:
                self._control.sendall(encode_message(message))
        except OSError as exc:
            log.debug("cannot send %s to %s: %s", type(message).__name__, self._peer, exc)

    def join(self, timeout_s: float) -> None:
        """Waits until the peer has disconnected and every message from it was handled."""
        if self._thread.ident is not None:
            self._thread.join(timeout_s)

    def close(self, timeout_s: float) -> None:
        """Stops reading, and waits for the thread. Idempotent."""
        self._closing = True
        try:
            self._control.shutdown(socket.SHUT_RD)  # wakes the thread
        except OSError:
            pass  # the peer is gone, and the thread knows
        self.join(timeout_s)

    def _read_messages(self) -> None:
        stream = ControlStream()
        try:
            while data := self._control.recv(_READ_BYTES):
                for message in stream.feed_bytes(data):
                    self._on_message(message)
        except PeerError as exc:
            log.warning("invalid control message from %s: %s", self._peer, exc)
        except OSError as exc:
            log.debug("the control socket of %s is closed: %s", self._peer, exc)
        if not self._closing:
            self._on_disconnect()
