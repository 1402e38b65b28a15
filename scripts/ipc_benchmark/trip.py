"""The round trip of one row from a front door's queue through a real worker, whose handler returns its input."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import uvloop

import cost_model
from base.endpoint.describe import describe_endpoint
from base.ipc.front_door_control import Configure, Route
from base.ipc.release_spec import ReleaseSpec
from ipc_benchmark import peer
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers


class Trip(NamedTuple):
    """Microseconds of consecutive round trips."""

    trips: int
    p10_us: float
    p50_us: float
    p99_us: float


def measure(trips: int) -> Trip:
    """Measures the time from the submission of decoded rows to the body of the response."""
    with tempfile.TemporaryDirectory(prefix="pexdock-bench-") as folder:
        path = Path(folder, "worker.sock")
        worker = subprocess.Popen([sys.executable, "-m", peer.__name__, path], stdout=subprocess.PIPE)
        try:
            assert worker.stdout is not None
            worker.stdout.readline()
            times = sorted(uvloop.run(_timed(path, trips)))
        finally:
            worker.kill()
            worker.communicate()
    return Trip(trips, *(times[trips * share // 100] * 1e6 for share in (10, 50, 99)))


async def _timed(path: Path, trips: int) -> list[float]:
    limits = Configure()
    dispatch = Dispatchers(QueueLimits.from_configuration(limits), limits.shared_memory_max_bytes, Deadlines(limits.request_timeout_s))
    (link,) = dispatch.apply([Route(ReleaseSpec("bench", "0", [describe_endpoint(cost_model.numbers)]), [str(path)])])
    assert await link.wait_welcomed()
    endpoint = dispatch.releases[0].endpoints[0]
    head, body = RequestHead(Target(endpoint, {}, b"/numbers"), "", ""), msgspec.json.encode([cost_model.ROWS["numbers"]])
    times = []
    for _ in range(trips):
        responded: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        rows = head.decode(body)
        began = time.perf_counter()
        submit_request(head, "0" * 32, body, responded.set_result, rows=rows)
        response = await responded
        times.append(time.perf_counter() - began)
        assert response.status == 200, response.body
    link.close()
    return times
