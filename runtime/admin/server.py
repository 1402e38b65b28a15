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
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.supervisor.listen import CannotListen

_BACKLOG = 16
_CONNECTIONS_MAX = 32
"""More are told to come again: each may hold an answer of megabytes."""

_KEEP_ALIVE_S = 5
_LAST_S = 1.0
"""Requests whose workers have ended need no time to end, too."""


class AdminServer:
    """Listens from `start` to `close`.

    Args:
        listener: bound, and its own from now on.
        context: what TLS is spoken by; None for plain HTTP.
    """

    def __init__(self, app: ASGIApp, listener: socket.socket, context: ssl.SSLContext | None = None) -> None:
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
            limit_concurrency=_CONNECTIONS_MAX,
            timeout_keep_alive=_KEEP_ALIVE_S,
        )
        self._clients = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Accepts connections from now on."""
        self._config.load()
        protocol = functools.partial(HttpToolsProtocol, config=self._config, server_state=self._clients, app_state={})
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if self._listener.family == socket.AF_UNIX else loop.create_server
        self._server = await create(protocol, sock=self._listener, ssl=self._context, backlog=_BACKLOG)

    async def close(self) -> None:
        """Hangs up on whoever is still there. Idempotent."""
        if self._server is not None:
            server, self._server = self._server, None
            server.close()
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
