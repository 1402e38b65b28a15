"""Who is taken to have killed a worker: what that worker had begun, and nobody who only waited in its socket."""

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
from runtime.front.scheduling.quarantine import DEATHS_MAX

SCHEMA = wire.columns_to_arrow({"a": Column(pl.Float64(), False)})
WORDS = ReleaseSpec("tiny", "1", [EndpointSpec("echo", "/echo", [], SCHEMA.serialize().to_pybytes(), None, 64, 1)])


class Workers:
    """Workers that are bare sockets, one after the other."""

    def __init__(self, door: FrontDoor, folder: Path, stack: ExitStack) -> None:
        self.door, self._folder, self._stack = door, folder, stack
        self._number = 0

    def next(self) -> BareWorker:
        """The only one from now on."""
        self._number += 1
        worker = self._stack.enter_context(BareWorker(self._folder / f"w{self._number}"))
        self.door.say(RoutingTable(self._number, [Route(WORDS, [worker.path])], startup_complete=True))
        worker.greet("tiny", "1")
        while self.door.hear() != TableApplied(self._number):
            pass
        return worker

    def suspect(self) -> tuple[BareWorker, Batch]:
        """As `next`, with the one request that was with a worker that died."""
        worker = self.next()
        batch = worker.batch()
        assert batch.flags & Flag.QUARANTINED
        assert batch.rows == 1
        return worker, batch


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    with FrontDoor() as door, ExitStack() as stack:
        yield Workers(door, tmp_path, stack)


@pytest.fixture
def client(workers: Workers) -> Iterator[Raw]:
    """Has asked for one row; the first worker that had it has died."""
    first = workers.next()
    with Raw(workers.door.address) as client:
        client.send(post("/echo", [{"a": 1.5}]))
        assert not first.batch().flags & Flag.QUARANTINED
        first.socket.close()
        yield client


def answered(worker: BareWorker, batch: Batch, client: Raw) -> bool:
    """Whether a failure that this worker tells reaches the client: it waits still."""
    worker.channel.send_message(Failure(batch.batch_id, b'{"code":"not_found","detail":"by hand"}'))
    return client.answer().status == 404


def test_what_a_worker_had_begun_when_it_died_is_to_blame(workers: Workers, client: Raw) -> None:
    worker, batch = workers.suspect()
    worker.channel.send_message(Started(batch.batch_id))
    worker.socket.close()
    answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (500, "handler_failed")


def test_what_a_worker_had_not_begun_goes_again(workers: Workers, client: Raw) -> None:
    """It waited in the socket behind what another front door had sent, or for its model."""
    workers.suspect()[0].socket.close()
    worker, batch = workers.suspect()
    worker.channel.send_message(ModelLoading(batch.batch_id))
    worker.socket.close()
    worker, batch = workers.suspect()
    assert answered(worker, batch, client)


def test_what_a_worker_had_computed_goes_again(workers: Workers, client: Raw) -> None:
    """It waited for room when the worker died of something else."""
    worker, batch = workers.suspect()
    worker.channel.send_message(Started(batch.batch_id))
    worker.channel.send_message(ReplyTooLarge(batch.batch_id, 1000))
    assert isinstance(worker.receive(), ReplyBuffer)
    worker.socket.close()
    worker, batch = workers.suspect()
    assert answered(worker, batch, client)


def test_deaths_that_nobody_is_to_blame_for_are_bounded(workers: Workers, client: Raw) -> None:
    """A model may kill whoever loads it, before anything is computed: then others should not pay for it without end."""
    for _ in range(DEATHS_MAX - 1):
        workers.suspect()[0].socket.close()
    answer = client.answer()
    assert (answer.status, answer.json()["code"]) == (503, "unavailable")
