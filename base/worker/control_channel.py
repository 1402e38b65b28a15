"""The control socket of a worker: what its parent says, heard on a thread of its own.

So a handler that computes for minutes holds up neither an answer about caches nor the news that the parent is gone.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable

from base.errors import PeerError
from base.ipc.cache_control import CacheRequest, CacheResponse, ListCacheEntries, RefreshCache
from base.ipc.control import ControlMessage, ControlStream, Drain, encode_message

log = logging.getLogger(__name__)

_JOIN_S = 5.0


class ControlChannel:
    """Listens from `start` to `close`.

    Args:
        control: the parent's socket, which stays open.
        answer: to a question. Called on the thread that listens; must not raise.
        drain: the parent wants the worker to end. As above.
        gone: nobody is there any more, or nobody who can be understood. As above.
    """

    def __init__(
        self, control: socket.socket, answer: Callable[[CacheRequest], CacheResponse], drain: Callable[[], None], gone: Callable[[], None]
    ) -> None:
        self._control = control
        self._answer, self._drain, self._gone = answer, drain, gone
        self._saying = threading.Lock()
        self._closing = False
        self._thread = threading.Thread(target=self._listen, name="parent", daemon=True)

    def start(self) -> None:
        """Begins to listen."""
        self._control.setblocking(True)
        self._thread.start()

    def say(self, word: ControlMessage) -> None:
        """Tells the parent; waits while it does not read. From any thread. That the parent is gone is found out by the one that listens."""
        try:
            with self._saying:
                self._control.sendall(encode_message(word))
        except OSError as exc:
            log.debug("the parent cannot be told %s: %s", type(word).__name__, exc)

    def close(self) -> None:
        """Hears nothing more. Safe to call again."""
        self._closing = True
        try:
            self._control.shutdown(socket.SHUT_RD)  # wakes the thread
        except OSError:
            pass  # the parent is gone, and the thread knows
        if self._thread.ident is not None:
            self._thread.join(_JOIN_S)

    def _listen(self) -> None:
        lines = ControlStream()
        try:
            while data := self._control.recv(65536):
                for word in lines.feed(data):
                    self._hear(word)
        except (OSError, PeerError) as exc:
            log.warning("the parent cannot be understood: %s", exc)
        if not self._closing:
            self._gone()

    def _hear(self, word: ControlMessage) -> None:
        match word:
            case Drain():
                self._drain()
            case ListCacheEntries() | RefreshCache():
                self.say(self._answer(word))
            case _:
                raise PeerError(f"a worker was told {type(word).__name__}")
