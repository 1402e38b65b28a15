"""How a front door accepts its clients, and what it does while it cannot."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import sys
from collections.abc import Callable

from runtime.http.tls import HANDSHAKE_S

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Between two tries to accept, while nothing can be."""

ACCEPTS_PER_TURN = 64
"""Connections accepted in one turn of the loop, some 4 ms of it. One a turn made who came last of 256 wait for 0.1 to 0.3 s, while those
before them were answered again and again."""


class Acceptor:
    """Accepts on a listening socket, from `begin` to `end`.

    The loop's own server would do, but for when there is no descriptor, no file or no memory for a connection: uvloop then tries again and
    again, without an end, a pause or a word.

    Args:
        listener: bound; its owner closes it, after `end`.
        protocol: makes the one of a connection.
        context: of TLS; see below.
        coming_max: so many may shake hands at once; who comes beyond them takes the place of the first of them. At least twice AT_ONCE.
        admits: whether a socket of this number may stay. Asked here of those who are to speak TLS first, since nobody else asks before they
            have; all others are told why not.

    Attributes:
        context: of TLS, for those who come from now on; None for plain HTTP.
    """

    def __init__(
        self,
        listener: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        coming_max: int = sys.maxsize,
        admits: Callable[[int], bool] = lambda _: True,
    ) -> None:
        self._listener = listener
        self._protocol = protocol
        self._admits = admits
        self.context = context
        self._coming_max = coming_max
        self._loop = asyncio.get_running_loop()
        self._coming: dict[asyncio.Task[None], None] = {}  # accepted, and not yet connections; a set in order
        self._again: asyncio.TimerHandle | None = None
        self._able = True

    def start(self, backlog: int) -> None:
        """Listens, and accepts from now on."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Accepts nobody any more; what was accepted becomes a connection still."""
        if self._again is not None:
            self._again.cancel()
        self._loop.remove_reader(self._listener.fileno())

    async def wait_connected(self, timeout_s: float) -> None:
        """Until all that were accepted are connections or could not become any: at once, but for handshakes of TLS."""
        if self._coming:
            await asyncio.wait(self._coming, timeout=timeout_s)

    def _accept(self) -> None:
        """Some of those who wait, so that those who are there already take turns with who comes."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except ConnectionError:
                continue  # that client is gone
            except BlockingIOError:
                return
            except OSError as exc:
                self._pause(exc)
                return
            self._able = True
            if self.context is not None and not self._admits(sock.fileno()):
                sock.close()
                continue
            if len(self._coming) >= self._coming_max:
                first = next(iter(self._coming))
                del self._coming[first]
                first.cancel()
            task = self._loop.create_task(self._connect(sock))
            self._coming[task] = None
            task.add_done_callback(lambda done: self._coming.pop(done, None))

    def _pause(self, error: OSError) -> None:
        """The kernel keeps who comes meanwhile, and says that they are there for as long as they are."""
        if self._able:
            log.warning("no connection can be accepted, they wait: %s", error.strerror)
            self._able = False
        self._loop.remove_reader(self._listener.fileno())
        self._again = self._loop.call_later(RETRY_S, self._loop.add_reader, self._listener.fileno(), self._accept)

    async def _connect(self, sock: socket.socket) -> None:
        handshake_s = None if self.context is None else HANDSHAKE_S
        try:
            await self._loop.connect_accepted_socket(self._protocol, sock, ssl=self.context, ssl_handshake_timeout=handshake_s)
        except OSError as exc:
            log.debug("a connection was not made: %s", exc)  # the client is gone, or does not speak TLS as we do
            sock.close()
