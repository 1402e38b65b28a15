"""Attribution of a worker crash: to requests that the worker had begun, never to those that only waited in its socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import polars as pl
import pytest

from base.ipc.front_door_control import Route, RoutingTable, TableApplied
from base.ipc.protocol import Batch, Failure, Flag, ModelLoading, ReplyBuffer, ReplyTooLarge, Started
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.schema import wire
from base.schema.wire import Column
from front_process import BareWorker, FrontDoor
from rawhttp import Raw, post
from runtime.front.scheduling.quarantine import CRASHES_MAX

SCHEMA = wire.columns_to_arrow({"a": Column(pl.Float64(), False)})
WORDS = ReleaseSpec("tiny", "1", [EndpointSpec("echo", "/echo", [], SCHEMA.serialize().to_pybytes(), None, 64, 1)])


class BareWorkers:
    """BareWorkers that are bare sockets, one after the other."""

    def __init__(self, door: FrontDoor, folder: Path, stack: ExitStack) -> None:
        self.door, self._folder, self._stack = door, folder, stack
        self._number = 0

    def next_worker(self) -> BareWorker:
        """Returns the worker that is the only one from now on."""
        self._number += 1
        worker = self._stack.enter_context(BareWorker(self._folder / f"w{self._number}"))
        self.door.send_message(RoutingTable(self._number, [Route(WORDS, [worker.path])], startup_complete=True))
        worker.greet("tiny", "1")
        while self.door.next_message() != TableApplied(self._number):
            pass
        return worker

    def next_with_suspect(self) -> tuple[BareWorker, Batch]:
        """Returns the next worker, with the one request that a dead worker had."""
        worker = self.next_worker()
        batch = worker.batch()
        assert batch.flags & Flag.QUARANTINED
        assert batch.rows == 1
        return worker, batch


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[BareWorkers]:
    with FrontDoor() as door, ExitStack() as stack:
        yield BareWorkers(door, tmp_path, stack)


@pytest.fixture
def client(workers: BareWorkers) -> Iterator[Raw]:
    """Yields a client that has requested one row; the first worker that had it has died."""
    first = workers.next_worker()
    with Raw(workers.door.address) as client:
        client.send(post("/echo", [{"a": 1.5}]))
        assert not first.batch().flags & Flag.QUARANTINED
        first.socket.close()
        yield client


def reaches_client(worker: BareWorker, batch: Batch, client: Raw) -> bool:
    """Returns whether a failure that this worker reports reaches the client, which then was still waiting."""
    worker.channel.send_message(Failure(batch.batch_id, b'{"code":"not_found","detail":"by hand"}'))
    return client.answer().status == 404


def test_a_request_that_a_worker_had_begun_is_blamed_for_its_crash(workers: BareWorkers, client: Raw) -> None:
    worker, batch = workers.next_with_suspect()
    worker.channel.send_message(Started(batch.batch_id))
    worker.socket.close()
    answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (500, "handler_failed")


def test_a_request_that_a_worker_had_not_begun_is_retried(workers: BareWorkers, client: Raw) -> None:
    """It waited in the socket behind a batch of another front door, or for its model."""
    workers.next_with_suspect()[0].socket.close()
    worker, batch = workers.next_with_suspect()
    worker.channel.send_message(ModelLoading(batch.batch_id))
    worker.socket.close()
    worker, batch = workers.next_with_suspect()
    assert reaches_client(worker, batch, client)


def test_a_request_that_a_worker_had_computed_is_retried(workers: BareWorkers, client: Raw) -> None:
    """It waited for a reply buffer when the worker died of something else."""
    worker, batch = workers.next_with_suspect()
    worker.channel.send_message(Started(batch.batch_id))
    worker.channel.send_message(ReplyTooLarge(batch.batch_id, 1000))
    assert isinstance(worker.receive(), ReplyBuffer)
    worker.socket.close()
    worker, batch = workers.next_with_suspect()
    assert reaches_client(worker, batch, client)


def test_retries_after_crashes_without_a_culprit_are_limited(workers: BareWorkers, client: Raw) -> None:
    """A model may crash every worker that loads it; requests must not follow it forever."""
    for _ in range(CRASHES_MAX - 1):
        workers.next_with_suspect()[0].socket.close()
    answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
