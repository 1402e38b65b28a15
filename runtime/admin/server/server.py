"""Serves an ASGI application on one socket, from a loop that has other things to do.

`uvicorn.Server` would wake ten times a second to look around, and wait for its clients at the end. Its HTTP protocol is used without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from runtime.admin.server.connection import AdminConnection, Limits
from runtime.http.acceptor import ACCEPTS_PER_TURN, Acceptor
from runtime.supervisor.host.listeners import CannotListen

_BACKLOG = 128
"""Who waits there costs nothing, and a crowd without a token must not be all that waits."""

_HANDSHAKES_MAX = 2 * ACCEPTS_PER_TURN
"""Of TLS, under way at once. They come before a token can be shown."""

_KEEP_ALIVE_S = 5
_LAST_S = 1.0
"""Requests whose workers have ended need no time to end, too."""


class AdminServer:
    """Listens from `start` to `close`.

    Args:
        listener: bound, and its own from now on.
        context: what TLS is spoken by; None for plain HTTP.
        limits: of connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        listener: socket.socket,
        context: ssl.SSLContext | None = None,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> None:
        self._listener = listener
        self._context = context
        self._config = uvicorn.Config(
            app,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._clients = ServerState()
        self._limits = limits
        self._accepting: Acceptor | None = None

    async def start(self) -> None:
        """Accepts connections from now on."""
        self._config.load()
        asker = functools.partial(AdminConnection, self._limits, self._config, self._clients)
        self._accepting = Acceptor(self._listener, asker, self._context, _HANDSHAKES_MAX)
        self._accepting.start(_BACKLOG)

    async def close(self) -> None:
        """Hangs up on whoever is still there. Idempotent."""
        if self._accepting is not None:
            self._accepting.stop()
            self._accepting = None
            self._listener.close()  # who waits there is not kept waiting
        for connection in list(self._clients.connections):
            connection.transport.abort()
        if self._clients.tasks:
            await asyncio.wait(self._clients.tasks, timeout=_LAST_S)


@contextlib.contextmanager
def unix_listener(path: Path) -> Iterator[socket.socket]:
    """A socket at `path`, at most 107 bytes, in a folder that only this user can enter; gone at the end.

    Raises:
        CannotListen: it cannot be made.
    """
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(path))
            path.chmod(0o600)  # before it listens, so that nobody could connect before
        except OSError as exc:
            raise CannotListen(f"cannot listen on {path}: {exc.strerror or exc}") from exc
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def tcp_listener(host: str, port: int) -> Iterator[socket.socket]:
    """A socket on an address of this machine.

    Raises:
        CannotListen: it cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.create_server((str(address[0]), port), family=family, backlog=_BACKLOG)
    except OSError as exc:
        raise CannotListen(f"the admin side cannot listen on {host} port {port}: {exc.strerror or exc}") from exc
    with listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # connections inherit it: followers may be gone without a word
        yield listener
