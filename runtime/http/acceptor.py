"""Accepts connections on a listening socket, and waits while it cannot."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import sys
from collections.abc import Callable

from runtime.http.lingering import LINGER_S
from runtime.http.listener_drain import refuse_connections, wait_for_handshakes

log = logging.getLogger(__name__)

RETRY_S = 0.5
"""Time between two attempts to accept while the system refuses connections."""

BACKLOG_MAX_S = 1.0
"""Time limit for accepting what is in the backlog of a listener that refuses new clients, in seconds. Leaves time for a second attempt."""

ACCEPTS_PER_TURN = 64
"""Connections accepted in one iteration of the loop, which takes about 4 ms. With one per iteration, the last of 256 clients waited 0.1 to
0.3 s, while earlier clients were answered again and again."""


def _admit_all(_: int) -> bool:
    return True


class Acceptor:
    """Accepts connections from `start` to `stop`.

    The loop's own server would be enough if descriptors, files and memory never ran out. When they do, uvloop retries forever without a
    pause or a log line.

    Args:
        listener: A bound socket. Its owner closes it after `stop`.
        make_protocol: Makes the protocol of a connection.
        context: TLS context; None for plain HTTP.
        handshake_s: Time limit of a TLS handshake.
        handshakes_max: Limit of concurrent TLS handshakes, at least twice ACCEPTS_PER_TURN. Beyond it a new one replaces the oldest.
        admits: Returns whether a socket with this number may stay. Called only for TLS, where nothing else checks before the handshake;
            other clients are refused later, with a reason.

    Attributes:
        context: TLS context of connections that are accepted from now on.
    """

    def __init__(
        self,
        listener: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        context: ssl.SSLContext | None,
        handshake_s: float,
        handshakes_max: int = sys.maxsize,
        admits: Callable[[int], bool] = _admit_all,
    ) -> None:
        self._listener = listener
        self._make_protocol = make_protocol
        self._admits = admits
        self.context = context
        self._tls_s = {"ssl_handshake_timeout": handshake_s, "ssl_shutdown_timeout": LINGER_S}
        self._handshakes_max = handshakes_max
        self._loop = asyncio.get_running_loop()
        self._connecting: dict[asyncio.Task[None], None] = {}  # accepted, but not yet connections; an ordered set
        self._retry: asyncio.TimerHandle | None = None
        self._accepting = True
        self._backlog_empty = asyncio.Event()  # set whenever it is

    def start(self, backlog: int) -> None:
        """Listens and accepts from now on."""
        self._listener.setblocking(False)
        self._listener.listen(backlog)
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def stop(self) -> None:
        """Stops accepting. Sockets that were accepted before still become connections."""
        if self._retry is not None:
            self._retry.cancel()
        self._loop.remove_reader(self._listener.fileno())

    async def drain(self) -> None:
        """Refuses new clients, accepts those that are connected or have begun to connect, and stops."""
        refuse_connections([self._listener])
        await wait_for_handshakes(self._listener)
        self._backlog_empty.clear()
        self._accept()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._backlog_empty.wait(), BACKLOG_MAX_S)
        self.stop()

    async def wait_connected(self, timeout_s: float) -> None:
        """Waits until every accepted socket is a connection or has failed. Only TLS handshakes take time."""
        if self._connecting:
            await asyncio.wait(self._connecting, timeout=timeout_s)

    def _accept(self) -> None:
        """Accepts some of the waiting clients, so that existing connections get their turn, too."""
        for _ in range(ACCEPTS_PER_TURN):
            try:
                sock, _ = self._listener.accept()
            except ConnectionError:
                continue  # that client is gone
            except BlockingIOError:
                self._backlog_empty.set()
                return
            except OSError as exc:
                self._pause(exc)
                return
            self._accepting = True
            if self.context is not None and not self._admits(sock.fileno()):
                sock.close()
                continue
            # Without TLS, a connection may be in use before its task has ended, and cancelling would leave it neither open nor lost.
            if self.context is not None and len(self._connecting) >= self._handshakes_max:
                oldest = next(iter(self._connecting))
                del self._connecting[oldest]
                oldest.cancel()
            task = self._loop.create_task(self._connect(sock))
            self._connecting[task] = None
            task.add_done_callback(lambda done: self._connecting.pop(done, None))

    def _pause(self, error: OSError) -> None:
        """Stops polling the listener for a while: the kernel keeps waiting clients, and would report them all the time."""
        if self._accepting:
            log.warning("cannot accept connections; new ones stay in the backlog: %s", error.strerror)
            self._accepting = False
        self.stop()
        self._retry = self._loop.call_later(RETRY_S, self._loop.add_reader, self._listener.fileno(), self._accept)

    async def _connect(self, sock: socket.socket) -> None:
        tls_s = {} if self.context is None else self._tls_s
        try:
            await self._loop.connect_accepted_socket(self._make_protocol, sock, ssl=self.context, **tls_s)
        except OSError as exc:
            log.debug("a connection failed: %s", exc)  # the client is gone, or its TLS does not fit ours
            sock.close()
