"""Counts function calls, messages and bytes of one batch between a real dispatcher and a real link of a worker, in one thread.

Both do the same as in two processes. In one thread every call can be counted, and the counts are the same each time.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import uvloop

import cost_model
from base.async_runner import AsyncRunner
from base.endpoint.dependencies import Dependencies
from base.endpoint.describe import describe_endpoint
from base.ipc import channel
from base.ipc.control import WIRE_VERSION
from base.ipc.front_door_control import Configure, Route
from base.ipc.protocol import Welcome
from base.ipc.release_spec import ReleaseSpec, release_tag
from base.worker.link.async_calls import AsyncCalls
from base.worker.link.front_link import FrontLink
from base.worker.prediction.predictor import Predictor
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers

ROWS = {"1 row": 1, "64 rows": 64}


def counted() -> dict[str, dict[str, dict[str, int]]]:
    """Returns the counts of each endpoint and number of rows: calls of Python and of C functions on either side, messages and bytes."""
    return uvloop.run(_counted())


async def _counted() -> dict[str, dict[str, dict[str, int]]]:
    with tempfile.TemporaryDirectory(prefix="pexdock-cost-") as folder, _Counter() as counter:
        path = Path(folder, "worker.sock")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            listener.listen()
            spec = ReleaseSpec("cost", "0", [describe_endpoint(endpoint) for endpoint in cost_model.ENDPOINTS])
            limits = Configure()
            dispatch = Dispatchers(
                QueueLimits.from_configuration(limits), limits.shared_memory_max_bytes, Deadlines(limits.request_timeout_s)
            )
            links = dispatch.apply([Route(spec, [str(path)])])
            connection = _connected(listener, counter)
            assert [await link.wait_welcomed() for link in links] == [True]
            found = {
                endpoint.spec.name: {name: await counter.batch(endpoint, rows) for name, rows in ROWS.items()}
                for endpoint in dispatch.releases[0].endpoints
            }
            asyncio.get_running_loop().remove_reader(connection.fileno())
            links[0].close()
            connection.close()
    return found


def _connected(listener: socket.socket, counter: _Counter) -> FrontLink:
    """Returns the worker's side of the channel, which runs on this loop."""
    loop = AsyncRunner()
    predictors = [Predictor(endpoint, None, loop, Dependencies(loop)) for endpoint in cost_model.ENDPOINTS]
    welcome = Welcome(WIRE_VERSION, "cost", "0", release_tag("cost", "0", ""))
    connection = FrontLink(channel.Channel(listener.accept()[0]), welcome, predictors, lambda: None, AsyncCalls(loop))
    asyncio.get_running_loop().add_reader(connection.fileno(), counter.as_worker(connection.handle_next_message))
    return connection


class _Counter:
    """Counts calls while a batch is in flight, separately for both sides."""

    def __init__(self) -> None:
        self._side = "front door"
        self._found: Counter[str] = Counter()
        self._send, self._receive = channel.Channel.send_message, channel.Channel.receive_with_fd_nowait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def as_worker(self, handle: Callable[[], bool]) -> Callable[[], None]:
        """Returns a callback whose calls count as the worker's."""

        def handled() -> None:
            self._side = "worker"
            handle()
            self._side = "front door"

        return handled

    async def batch(self, endpoint: ServedEndpoint, rows: int) -> dict[str, int]:
        """Returns the counts of one batch with this number of rows, after a few others have filled all caches."""
        body = msgspec.json.encode([cost_model.ROWS[endpoint.spec.name]] * rows)
        head = RequestHead(Target(endpoint, {}, endpoint.spec.path.encode()), "application/json", "*/*")
        for _ in range(4):
            await self._predict(head, body)
        self._found.clear()
        sys.setprofile(self._count)
        try:
            await self._predict(head, body)
        finally:
            sys.setprofile(None)
        return dict(sorted(self._found.items()))

    @staticmethod
    async def _predict(head: RequestHead, body: bytes) -> None:
        responded: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        submit_request(head, "0" * 32, body, responded.set_result)
        response = await responded
        assert response.status == 200, response.body

    def _count(self, frame: Any, event: str, _: object) -> None:
        if event == "call":
            self._found[f"{self._side}, calls of Python functions"] += 1
            if frame.f_code is self._send.__code__:
                self._found[f"{self._side}, messages sent"] += 1
                self._bytes(frame.f_locals["message"])
        elif event == "c_call":
            self._found[f"{self._side}, calls of C functions"] += 1

    def _bytes(self, message: Any) -> None:
        if type(message).__name__ == "Batch":
            self._found["bytes of the frame"] += message.request.length
        elif type(message).__name__ == "Reply":
            self._found["bytes of the reply"] += message.length
