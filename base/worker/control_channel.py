"""The control socket of a worker, whose messages are handled on a thread of its own.

So a handler that computes for minutes delays neither a response about caches nor the detection that the parent is gone.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

from base.errors import PeerError
from base.ipc.cache_control import CacheRequest, CacheResponse, ListCacheEntries, RefreshCache
from base.ipc.control import ControlMessage, Drain
from base.ipc.control_connection import ControlConnection

_JOIN_S = 5.0


class ControlChannel:
    """Handles the messages of the parent from `start` to `close`.

    Args:
        control: The socket of the parent, which stays open.
        answer: Answers a cache request. Called on the thread that reads; must not raise.
        on_drain: Called when the parent wants the worker to stop, on the same thread; must not raise.
        on_disconnect: Called when the parent is gone or sent something invalid, on the same thread; must not raise.
    """

    def __init__(
        self,
        control: socket.socket,
        answer: Callable[[CacheRequest], CacheResponse],
        on_drain: Callable[[], None],
        on_disconnect: Callable[[], None],
    ) -> None:
        self._answer, self._on_drain = answer, on_drain
        self._connection = ControlConnection(control, "the parent", self._on_message, on_disconnect)

    def start(self) -> None:
        """Starts to handle messages."""
        self._connection.start()

    def send(self, message: ControlMessage) -> None:
        """Sends a message to the parent, from any thread; blocks while the parent does not read."""
        self._connection.send_message(message)

    def close(self) -> None:
        """Stops handling messages. Idempotent."""
        self._connection.close(_JOIN_S)

    def _on_message(self, message: ControlMessage) -> None:
        match message:
            case Drain():
                self._on_drain()
            case ListCacheEntries() | RefreshCache():
                self.send(self._answer(message))
            case _:
                raise PeerError(f"a worker does not accept the control message {type(message).__name__}")
