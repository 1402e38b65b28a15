"""The HTTP server: uvicorn, stopped by its owner instead of by signals, and without wake-ups while it is idle."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable, Sequence
from functools import partial
from typing import cast

import uvicorn

from base.ipc.front_door_control import Configure
from runtime.front.app.access_logging import AccessLogMiddleware
from runtime.front.app.asgi_app import AsgiApp
from runtime.front.app.service import InferenceService
from runtime.front.credentials import CredentialWatcher
from runtime.front.fd_limit import raise_fd_limit
from runtime.front.http.connection import ConnectionContext, HttpConnection
from runtime.front.http.response_writer import ResponseSerializer
from runtime.front.http.sweeper import Sweeper
from runtime.front.http.timeouts import TimeLimits
from runtime.front.telemetry.access_log import AccessLog
from runtime.http.acceptor import Acceptor
from runtime.http.listener_drain import HANDSHAKES_MAX_S

LAST_REQUEST_S = 0.5
"""Delay between the stop of the server and the closing of idle connections, in seconds. A client may have just sent a request, which would
be lost if its connection was closed at once. With the delay it is answered, and the response announces that the connection ends."""


class FrontServer(uvicorn.Server):
    """Serves the requests of one front door on sockets that are already bound.

    Args:
        service: Answers predictions.
        configure: Limits, and paths of credentials.
        access_log: Gets a line for each request; None if access logs are disabled, which then cost nothing.
    """

    def __init__(self, service: InferenceService, configure: Configure, access_log: AccessLog | None = None) -> None:
        self._app = app = AsgiApp(service, configure.request_timeout_s, configure.jobs)
        config = uvicorn.Config(
            app if access_log is None else AccessLogMiddleware(app, access_log),
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,  # connections send the date themselves
            proxy_headers=False,  # nothing here depends on who the client is
            timeout_graceful_shutdown=max(1, int(configure.drain_s)),
        )
        super().__init__(config)
        limits = TimeLimits.from_seconds(idle_s=configure.keep_alive_s, head_s=configure.head_timeout_s, slow_s=configure.request_timeout_s)
        sweeper = Sweeper(limits, configure.connections_max, raise_fd_limit(), configure.shared_memory_max_bytes)
        self._connections = ConnectionContext(service, sweeper, ResponseSerializer(), access_log, config, self.server_state)
        self._handshake_s = configure.tls_handshake_timeout_s
        self._credentials = CredentialWatcher(configure, service.require_keys, self.apply_tls)
        self._watching: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._acceptors: dict[int, Acceptor] = {}  # by the descriptor of the listening socket
        self._own_fds: set[int] = set()
        self._inherited: dict[int, socket.socket] = {}  # those of other front doors
        self._listening, self._stopped = asyncio.Event(), asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, sockets: Sequence[socket.socket]) -> None:
        """Begins to accept connections, and returns once it does.

        Raises:
            BadTls: The certificate cannot be used.
        """
        await self._credentials.load()
        if self._credentials.paths:
            self._watching = asyncio.get_running_loop().create_task(self._credentials.run())
        self._serving = asyncio.get_running_loop().create_task(self._serve(list(sockets)))  # `serve` would handle signals
        await self._listening.wait()

    def reconfigure(self, configure: Configure) -> None:
        """Applies new limits of connections and jobs, and reads API keys and TLS files again if they have changed."""
        self._connections.sweeper.connections_max = configure.connections_max
        if self._app.jobs is not None and configure.jobs is not None:
            self._app.jobs.reconfigure(configure.jobs)
        self._reloading = asyncio.get_running_loop().create_task(self._credentials.reload())

    async def stop(self) -> None:
        """Stops accepting connections, and returns when the requests that have come are answered or the time limit is over."""
        if self._watching is not None:
            self._watching.cancel()
        if self._app.jobs is not None:
            self._app.jobs.begin_end()
        self.should_exit = True
        self._stopped.set()
        assert self._serving is not None
        await self._serving

    def _open_connections(self) -> Iterable[HttpConnection]:
        return cast("set[HttpConnection]", self.server_state.connections).copy()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers clients that connect or send a request at this very moment, and then shuts down as uvicorn does."""
        await asyncio.gather(*(acceptor.drain() for acceptor in self._acceptors.values()))
        await asyncio.gather(*(acceptor.wait_connected(HANDSHAKES_MAX_S) for acceptor in self._acceptors.values()))
        for connection in self._open_connections():
            connection.take_last_request()
        loop = asyncio.get_running_loop()
        end_s = loop.time() + LAST_REQUEST_S
        while self.server_state.connections and loop.time() < end_s:  # noqa: ASYNC110 - connections that end notify nobody
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begins to accept connections, with an acceptor of our own."""
        assert sockets is not None
        for sock in sockets:
            self._accept(sock)
        self._own_fds = set(self._acceptors)
        self.servers = []
        self.started = True
        self._listening.set()

    def accept_also(self, listen_fds: Sequence[int]) -> None:
        """Accepts the clients of other front doors, and of no others than these from now on."""
        for fd in self._acceptors.keys() - self._own_fds - set(listen_fds):
            self._acceptors.pop(fd).stop()
        for fd in set(listen_fds) - self._acceptors.keys():
            if fd not in self._inherited:
                self._inherited[fd] = socket.socket(fileno=fd)
            self._accept(self._inherited[fd])

    def _accept(self, listener: socket.socket) -> None:
        context = self._connections
        admits = partial(context.sweeper.admits, cast("set[HttpConnection]", self.server_state.connections))
        acceptor = Acceptor(listener, partial(HttpConnection, context), self._credentials.context, self._handshake_s, admits=admits)
        acceptor.start(self.config.backlog)
        self._acceptors[listener.fileno()] = acceptor

    def apply_tls(self, context: ssl.SSLContext, *, close_existing: bool) -> None:
        """Uses another TLS context for new connections.

        Args:
            context: The TLS context.
            close_existing: Whether to close existing connections, once the requests that have begun on them are answered.
        """
        for acceptor in self._acceptors.values():
            acceptor.context = context
        for connection in self._open_connections() if close_existing else ():
            connection.shutdown()

    async def main_loop(self) -> None:
        """Waits for `stop`. Uvicorn's own loop wakes up ten times a second."""
        await self._stopped.wait()
