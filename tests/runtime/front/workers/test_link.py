"""A link to a worker that is a bare socket."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pytest

from base.errors import HandlerFailed
from base.ipc import frames
from base.ipc.channel import Channel
from base.ipc.control import WIRE_VERSION
from base.ipc.failure import encode_error
from base.ipc.front_door_control import Route
from base.ipc.metrics_report import MetricsConfig
from base.ipc.protocol import AttachSegment, Batch, Failure, Hello, Reply, Welcome
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.ipc.segment import Segment
from runtime.front.codecs.rows import Rows
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.workers import reply_handler
from runtime.front.workers.link import WorkerLink

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


async def reached(condition: Callable[[], bool]) -> None:
    """Waits for a state."""
    while True:
        if condition():
            return
        await asyncio.sleep(0.001)


async def connected(listener: socket.socket) -> tuple[WorkerLink, Channel, RequestHead]:
    """A link, the worker's end of it, and the head of a request for that worker."""
    dispatchers = Dispatchers(QueueLimits(10, 2**20), 2**26, Deadlines(60.0), None)
    (link,) = dispatchers.apply([Route(SPEC, [listener.getsockname()])])
    worker = Channel(listener.accept()[0])
    await received(worker, Hello)
    worker.send_message(Welcome(WIRE_VERSION, "tiny", "1"))
    await link.wait_welcomed()
    return link, worker, RequestHead(Target(dispatchers.releases[0].endpoints[0], {}, b"/tiny"), "application/json", "")


def rows_of(count: int) -> Rows:
    batch = pa.RecordBatch.from_pydict({"x": pa.array(range(count))})
    return Rows(batch, str(batch.schema))


@pytest.mark.parametrize("count", [8, 1_000_000])
def test_many_rows_are_written_on_a_thread(count: int, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop writes few rows itself. The worker hears of a batch once it is written."""
    writers, may_write, write_frame = [], threading.Event(), frames.write_frame

    def note(batch: Any, into: memoryview, *, known_schema: bool) -> frames.WrittenFrame:
        writers.append(threading.current_thread())
        assert threading.current_thread() is threading.main_thread() or may_write.wait(30)
        return write_frame(batch, into, known_schema=known_schema)

    monkeypatch.setattr(frames, "write_frame", note)

    async def scenario() -> None:
        link, worker, head = await connected(listener)
        submit_request(head, "1", b"", lambda _: None, rows=rows_of(count))
        await reached(lambda: not link.in_flight.is_empty)
        if count > 8:
            assert worker.receive_with_fd_nowait() is None
        may_write.set()
        found, segments = None, {}
        while not isinstance(found, Batch):
            message = worker.receive_with_fd_nowait()
            if message is None:
                await asyncio.sleep(0.001)
            elif isinstance(found := message.message, AttachSegment):
                assert message.fd is not None
                segments[found.segment] = Segment.map_received(message.fd, found.length)
        read = frames.read_frame(segments[found.request.segment].slice_view(found.request), found.flags, None)
        assert read.column(0).to_pylist() == [*range(count)]
        assert [each is threading.main_thread() for each in writers] == [count == 8]
        del read
        for segment in segments.values():
            segment.close()
        link.close()
        worker.close()

    asyncio.run(scenario())


def test_a_link_may_close_while_rows_are_written(listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows have their memory until they are written, and their request is lost with the worker, so that another may have it."""
    may_write, written, write_frame = threading.Event(), threading.Event(), frames.write_frame

    def wait(batch: Any, into: memoryview, *, known_schema: bool) -> frames.WrittenFrame:
        assert may_write.wait(30)
        found = write_frame(batch, into, known_schema=known_schema)
        written.set()
        return found

    monkeypatch.setattr(frames, "write_frame", wait)

    async def scenario() -> None:
        link, worker, head = await connected(listener)
        request = submit_request(head, "1", b"", lambda _: None, rows=rows_of(1_000_000))
        await reached(lambda: not link.in_flight.is_empty)
        worker.close()
        await reached(lambda: not link.open)
        assert request.crash_count == 1
        may_write.set()
        await reached(written.is_set)

    asyncio.run(scenario())


class Replying:
    """A worker that has been sent a batch, and writes its reply."""

    def __init__(self, worker: Channel) -> None:
        self._worker = worker
        self._segments: dict[int, Segment] = {}

    async def batch(self) -> Batch:
        while True:
            message = self._worker.receive_with_fd_nowait()
            if message is None:
                await asyncio.sleep(0.001)
            elif isinstance(found := message.message, AttachSegment):
                assert message.fd is not None
                self._segments[found.segment] = Segment.map_received(message.fd, found.length)
            elif isinstance(found, Batch):
                return found

    def reply(self, batch: Batch, result: pa.RecordBatch, *, damage: bool = False) -> None:
        place = self._segments[batch.reply.segment].slice_view(batch.reply)
        written = frames.write_frame(result, place, known_schema=False)
        if damage:
            place[:8] = bytes(8)
        self._worker.send_message(Reply(batch.batch_id, result.num_rows, written.length, written.flags))
        del place

    def close(self) -> None:
        self._worker.close()
        for segment in self._segments.values():
            segment.close()


@pytest.mark.parametrize("case", ["few rows", "many rows", "a link that closes", "an invalid reply"])
def test_a_long_reply_is_read_on_a_thread(case: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop reads short ones itself. A reply that has come is answered, whatever becomes of its worker."""
    readers, may_read, read = [], threading.Event(), reply_handler.read_reply

    def note(*given: Any) -> Any:
        readers.append(threading.current_thread())
        assert threading.current_thread() is threading.main_thread() or may_read.wait(30)
        return read(*given)

    monkeypatch.setattr(reply_handler, "read_reply", note)
    count = 8 if case == "few rows" else 1_000_000

    async def scenario() -> None:
        link, channel, head = await connected(listener)
        worker, answers = Replying(channel), []
        submit_request(head, "1", b"", answers.append, rows=rows_of(count))
        worker.reply(await worker.batch(), pa.RecordBatch.from_pydict({"prediction": pa.array(range(count))}), damage="invalid" in case)
        await reached(lambda: bool(readers))
        assert link.in_flight.is_empty or case == "few rows"
        if case == "a link that closes":
            link.close()
        may_read.set()
        await reached(lambda: bool(answers))
        (answer,) = answers
        if "invalid" in case:
            assert (answer.status, link.open) == (503, False)
        else:
            assert answer.status == 200
            assert msgspec.json.decode(answer.body)["predictions"] == [*range(count)]
        assert [each is threading.main_thread() for each in readers] == [case == "few rows"]
        link.close()
        worker.close()

    asyncio.run(scenario())


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
