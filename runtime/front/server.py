"""The HTTP server: uvicorn, as a front door runs it: told when to end by its owner, and asleep while nothing comes."""

from __future__ import annotations

import asyncio
import socket
from functools import partial

import uvicorn

from base.ipc.control import Configure
from runtime.front.access import AccessLog, Logged, LoggedConnection
from runtime.front.answer import Heads
from runtime.front.app import FrontDoor
from runtime.front.fast import Connection
from runtime.front.sweeper import Sweeper


class Server(uvicorn.Server):
    """Serves one front door on sockets that somebody else has bound.

    Args:
        access: a line for each request goes there; None where nobody wants them, which then cost nothing.
    """

    def __init__(self, door: FrontDoor, configure: Configure, access: AccessLog | None = None) -> None:
        connection = Connection if access is None else partial(LoggedConnection, access)
        config = uvicorn.Config(
            door if access is None else Logged(door, access),
            http=partial(connection, door, Heads(), Sweeper(configure.request_timeout_s)),  # type: ignore[arg-type]  # uvicorn only calls it
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
        self._listening = asyncio.Event()
        self._told = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def listen(self, sock: socket.socket) -> None:
        """Begins to accept connections, and returns once it does."""
        self._serving = asyncio.get_running_loop().create_task(self._serve([sock]))  # `serve` would take the signals
        await self._listening.wait()

    async def end(self) -> None:
        """Takes nothing new, answers what has come, and returns when that is done or took too long."""
        self.should_exit = True
        self._told.set()
        assert self._serving is not None
        await self._serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        await super().startup(sockets)
        self._listening.set()

    async def main_loop(self) -> None:
        """The one of uvicorn wakes up ten times a second, to see whether it should exit and what time it is."""
        await self._told.wait()
