"""The HTTP server: uvicorn, as a front door runs it: told when to end by its owner, and asleep while nothing comes."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn

from base.ipc.control import Configure
from runtime.front.app.asgi_app import AsgiApp
from runtime.front.app.service import InferenceService
from runtime.front.credentials import CredentialWatcher
from runtime.front.fd_limit import raise_limit
from runtime.front.http.access_logging import AccessLogMiddleware, LoggedHttpConnection
from runtime.front.http.connection import HttpConnection
from runtime.front.http.sweeper import Sweeper
from runtime.front.listener_drain import accepted_rest
from runtime.front.requests.response import ResponseSerializer
from runtime.front.telemetry.access_log import AccessLog
from runtime.http.acceptor import Acceptor

LINGER_S = 0.5
"""A connection that is kept and idle when the server ends is closed after so long. Its client may have just sent a request, which would be
lost if it was closed at once; this way it is answered, and told that it was the last one."""


class Server(uvicorn.Server):
    """Serves the requests of one front door on sockets that somebody else has bound.

    Args:
        access: a line for each request goes there; None where nobody wants them, which then cost nothing.
    """

    def __init__(self, service: InferenceService, configure: Configure, access: AccessLog | None = None) -> None:
        sweeper = Sweeper(configure.request_timeout_s, configure.connections_max, raise_limit(), configure.shared_memory_max_bytes)
        connection = HttpConnection if access is None else partial(LoggedHttpConnection, access)
        app = AsgiApp(service, configure.request_timeout_s)
        config = uvicorn.Config(
            app if access is None else AccessLogMiddleware(app, access),
            http=partial(connection, service, ResponseSerializer(), sweeper),  # type: ignore[arg-type]  # uvicorn only calls it
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            date_header=False,  # connections say the date themselves
            proxy_headers=False,  # nothing here depends on who the client is
            timeout_graceful_shutdown=max(1, int(configure.drain_s)),
        )
        super().__init__(config)
        self._sweeper = sweeper
        self._renewal = CredentialWatcher(configure, service.require_keys, self.renew)
        self._renewing: asyncio.Task[None] | None = None
        self._accepting: Acceptor | None = None
        self._listening = asyncio.Event()
        self._told = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Begins to accept connections, and returns once it does.

        Raises:
            BadTls: the certificate cannot be used.
        """
        self._renewal.load()
        if self._renewal.paths:
            self._renewing = asyncio.get_running_loop().create_task(self._renewal.run())
        self._serving = asyncio.get_running_loop().create_task(self._serve([sock]))  # `serve` would take the signals
        await self._listening.wait()

    async def end(self) -> None:
        """Takes nothing new, answers what has come, and returns when that is done or took too long."""
        if self._renewing is not None:
            self._renewing.cancel()
        self.should_exit = True
        self._told.set()
        assert self._serving is not None
        await self._serving

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but that clients who come or ask in this very moment are answered, too."""
        await accepted_rest(sockets or ())
        assert self._accepting is not None
        self._accepting.stop()
        await self._accepting.wait_connected(LINGER_S)
        for connection in list(self.server_state.connections):
            connection.take_last()  # type: ignore[union-attr]  # all are of our class
        loop = asyncio.get_running_loop()
        end_s = loop.time() + LINGER_S
        while self.server_state.connections and loop.time() < end_s:  # noqa: ASYNC110 - they tell nobody, as uvicorn has them
            await asyncio.sleep(0.05)
        await super().shutdown(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, but that clients are accepted by us."""
        config, state = self.config, self.server_state

        def connection() -> asyncio.Protocol:
            return config.http_protocol_class(config=config, server_state=state, app_state=self.lifespan.state)  # type: ignore[call-arg]

        assert sockets is not None
        admits = partial(self._sweeper.admits, state.connections)  # type: ignore[arg-type]  # as above
        self._accepting = Acceptor(sockets[0], connection, self._renewal.context, admits=admits)
        self._accepting.start(config.backlog)
        self.servers = []
        self.started = True
        self._listening.set()

    async def renew(self, *, hang_up: bool) -> None:
        """Accepts by the context of TLS that is in force now. Connections that were accepted before go on.

        Args:
            hang_up: they end, once they have been answered what they have begun to ask.
        """
        assert self._accepting is not None
        self._accepting.context = self._renewal.context
        for connection in list(self.server_state.connections) if hang_up else ():
            connection.shutdown()

    async def main_loop(self) -> None:
        """The one of uvicorn wakes up ten times a second, to see whether it should exit and what time it is."""
        await self._told.wait()
