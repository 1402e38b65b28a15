"""A link to a worker that is a bare socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from base.errors import HandlerFailed
from base.ipc.channel import Channel
from base.ipc.control import WIRE_VERSION
from base.ipc.failure import encode_error
from base.ipc.front_door_control import Route
from base.ipc.metrics_report import MetricsConfig
from base.ipc.protocol import Batch, Failure, Hello, Welcome
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.telemetry.metrics import FrontMetrics

SPEC = ReleaseSpec("tiny", "1", [EndpointSpec("predict", "/tiny", [], None, None, 64, 1)])


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of a worker."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(tmp_path / "worker.sock"))
        sock.listen()
        yield sock
    (tmp_path / "worker.sock").unlink()


async def received(worker: Channel, kind: type[Any]) -> Any:
    """The worker's next message of a kind."""
    while True:
        found = worker.receive_with_fd_nowait()
        if found is None:
            await asyncio.sleep(0.001)
        elif found.fd is not None:
            os.close(found.fd)
        elif isinstance(found.message, kind):
            return found.message


def test_a_request_waits_in_the_queue_once_however_often_it_is_sent(listener: socket.socket) -> None:
    """A batch that is tried again in halves was queued once; each of its tries is a batch."""

    async def scenario() -> None:
        metrics = FrontMetrics(MetricsConfig(60.0, 100), lambda: None)
        dispatchers = Dispatchers(QueueLimits(10, 2**20), 2**24, Deadlines(60.0), metrics)
        (link,) = dispatchers.apply([Route(SPEC, [listener.getsockname()])])
        worker = Channel(listener.accept()[0])
        await received(worker, Hello)
        worker.send_message(Welcome(WIRE_VERSION, "tiny", "1"))
        head = RequestHead(Target(dispatchers.releases[0].endpoints[0], {}, b"/tiny"), "application/json", "")
        responses = [asyncio.get_running_loop().create_future() for _ in range(2)]
        for number, response in enumerate(responses):
            submit_request(head, str(number), b'[{"x": 1}]', response.set_result)
        for _ in range(3):
            batch = await asyncio.wait_for(received(worker, Batch), 10)
            worker.send_message(Failure(batch.batch_id, encode_error(HandlerFailed("x"))))
        assert [(await response).status for response in responses] == [500, 500]
        (report,) = metrics.take_reports()
        assert report.summaries["BatchSize"].sample == [2, 1, 1]
        assert report.summaries["QueueTime"].count == 2
        link.close()
        worker.close()

    asyncio.run(scenario())
