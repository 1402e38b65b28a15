"""A front door in this process that counts the requests that do not take the fast path."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop

from base.ipc.front_door_control import Configure, Route, RoutingTable
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.front.app.service import InferenceService
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.server import FrontServer


class CountingService(InferenceService):
    """Counts the requests that reach its ASGI application, and those that take the fast path."""

    calls = submitted = 0
    loop: asyncio.AbstractEventLoop
    server: FrontServer

    def submit(self, *args: Any) -> Any:
        """Counts a request of the fast path."""
        self.submitted += 1
        return super().submit(*args)

    def put_in_force(self, table: RoutingTable) -> None:
        """Applies a routing table from another thread than the loop's."""

        async def apply() -> None:
            self.apply(table)

        asyncio.run_coroutine_threadsafe(apply(), self.loop).result()


def serve(talk: Callable[[str, CountingService], None], configure: Configure | None = None) -> None:
    """Runs `talk` with a front door whose only release has no worker, so that every request for it is a 503 on either path."""

    async def scenario() -> None:
        door = CountingService(Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(60.0)), 10_000)
        door.loop = asyncio.get_running_loop()
        plain = EndpointSpec("plain", "/plain/{name}", ["name"], None, None, 64, 1)
        alone = EndpointSpec("alone", "/alone", [], None, None, 64, 1, unbatched=True)
        door.apply(RoutingTable(1, [Route(ReleaseSpec("tiny", "1", [plain, alone]), [])], startup_complete=True))
        server = door.server = FrontServer(door, configure or Configure())
        app = server.config.app

        async def counted(scope, receive, send) -> None:
            door.calls += 1
            await app(scope, receive, send)

        server.config.app = counted
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.listen([listener])
            talking: Awaitable[None] = asyncio.to_thread(talk, f"http://127.0.0.1:{port}", door)
            await talking
            await server.stop()

    uvloop.run(scenario())
