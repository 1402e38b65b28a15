"""Serves an ASGI application on one socket, on a loop that has other work.

It uses uvicorn's HTTP protocol without `uvicorn.Server`, which would wake ten times a second, and wait for its clients at shutdown.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.server import ServerState

from runtime.admin.server.connection import AdminConnection, Limits
from runtime.http.acceptor import ACCEPTS_PER_TURN, Acceptor
from runtime.supervisor.host.listeners import CannotListen, bind_hosts

_BACKLOG = 128
"""Size of the backlog. Connections in it cost nothing, and many clients without a token must not fill it."""

_HANDSHAKES_MAX = 2 * ACCEPTS_PER_TURN
"""Maximum number of concurrent TLS handshakes, which come before a client can send its token."""

_CLOSE_S = 1.0
"""Time limit for requests in progress, which have nothing to wait for, since the workers have already exited."""


class HttpServer:
    """The server of one listener, from `start` to `close`.

    Args:
        app: Application to serve.
        listener: Bound socket, which the server then owns.
        context: TLS context; None for plain HTTP.
        limits: Limits of connections.
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
        )
        self._clients = ServerState()
        self._limits = limits
        self._acceptor: Acceptor | None = None

    async def start(self) -> None:
        """Starts to accept connections."""
        self._config.load()
        self._start_accepting()

    def apply_tls(self, context: ssl.SSLContext) -> None:
        """Uses another TLS context for new connections."""
        self._context = context
        if self._acceptor is not None:
            self._acceptor.context = context

    def replace_listener(self, listener: socket.socket) -> None:
        """Accepts connections on another bound socket from now on. Connections that exist go on."""
        if self._acceptor is not None:
            self._acceptor.stop()
            self._listener.close()
            self._listener = listener
            self._start_accepting()

    def _start_accepting(self) -> None:
        new_connection = functools.partial(AdminConnection, self._limits, self._config, self._clients)
        self._acceptor = Acceptor(self._listener, new_connection, self._context, self._limits.handshake_s, _HANDSHAKES_MAX)
        self._acceptor.start(_BACKLOG)

    async def close(self) -> None:
        """Closes the listener and all connections. Idempotent."""
        if self._acceptor is not None:
            self._acceptor.stop()
            self._acceptor = None
            self._listener.close()  # resets the connections in the backlog
        for connection in list(self._clients.connections):
            connection.transport.abort()
        if self._clients.tasks:
            await asyncio.wait(self._clients.tasks, timeout=_CLOSE_S)


@contextlib.contextmanager
def unix_listener(path: Path) -> Iterator[socket.socket]:
    """Binds a Unix socket at `path`, and closes it at the end; see `bind_unix`. The owner of the folder removes the file."""
    with bind_unix(path) as listener:
        yield listener


def bind_unix(path: Path) -> socket.socket:
    """Binds a Unix socket at `path`, of at most 107 bytes, in a folder that only this user can enter.

    Raises:
        CannotListen: The socket cannot be bound.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(0o600)  # before it listens, so that no other user can connect in between
    except OSError as exc:
        listener.close()
        raise CannotListen(f"cannot listen on {path}: {exc.strerror or exc}") from exc
    return listener


@contextlib.contextmanager
def tcp_listeners(hosts: Sequence[str], port: int) -> Iterator[list[socket.socket]]:
    """Binds a TCP socket to each host of this machine, and closes them at the end.

    Raises:
        CannotListen: An address cannot be bound.
    """
    with contextlib.ExitStack() as stack:
        try:
            listeners = [stack.enter_context(listener) for listener in bind_hosts(hosts, port, _BACKLOG)]
        except CannotListen as exc:
            raise CannotListen(f"the admin API {exc.detail}") from exc
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # inherited; a streaming client may vanish
        yield listeners
