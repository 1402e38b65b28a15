"""Serves an ASGI application on a Unix socket, from a loop that has other things to do.

`uvicorn.Server` would wake ten times a second to look around, and wait for its clients at the end. Its HTTP protocol is used without it.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from runtime.supervisor.listen import CannotListen

log = logging.getLogger(__name__)

_BACKLOG = 16
_CONNECTIONS_MAX = 32
"""More are told to come again: each may hold an answer of megabytes."""

_KEEP_ALIVE_S = 5
_LAST_S = 1.0
"""Requests whose workers have ended need no time to end, too."""


class AdminServer:
    """Listens from `start` to `close`.

    Args:
        path: of the socket, at most 107 bytes, in a folder that only this user can enter.
    """

    def __init__(self, app: ASGIApp, path: Path) -> None:
        self._path = path
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
        """Accepts connections from now on.

        Raises:
            CannotListen: the socket cannot be made.
        """
        self._config.load()
        protocol = functools.partial(HttpToolsProtocol, config=self._config, server_state=self._clients, app_state={})
        try:
            self._server = await asyncio.get_running_loop().create_unix_server(protocol, sock=_bound(self._path), backlog=_BACKLOG)
        except OSError as exc:
            raise CannotListen(f"cannot listen on {self._path}: {exc.strerror or exc}") from exc

    async def close(self) -> None:
        """Hangs up on whoever is still there. Idempotent."""
        if self._server is None:
            return
        server, self._server = self._server, None
        server.close()
        for connection in list(self._clients.connections):
            connection.transport.abort()
        if self._clients.tasks:
            await asyncio.wait(self._clients.tasks, timeout=_LAST_S)
        self._path.unlink(missing_ok=True)


def _bound(path: Path) -> socket.socket:
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        path.chmod(0o600)  # before it listens, so that nobody could connect before
        stack.pop_all()
        return listener
