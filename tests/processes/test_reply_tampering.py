"""Workers that keep writing to a reply while the front door reads it: nothing but that worker's own replies is affected."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import hostile_bodies
from base.ipc.front_door_control import Route, RoutingTable, TableApplied
from base.ipc.protocol import Flag, Reply, ReplyBuffer, ReplyTooLarge
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from front_process import BareWorker, FrontDoor
from rawhttp import Answer, Raw, post

MESSAGE = hostile_bodies.SCHEMA.serialize().to_pybytes()
WORDS = ReleaseSpec("tiny", "1", [EndpointSpec("echo", "/echo", [], MESSAGE, MESSAGE, 64, 1)])
ARROW = "application/vnd.apache.arrow.stream"
MB = 1024**2
ROUNDS = 12

LARGE = hostile_bodies.stream(hostile_bodies.good(rows=40_000).cast(hostile_bodies.SCHEMA))
SMALL = hostile_bodies.stream(hostile_bodies.good(rows=500).cast(hostile_bodies.SCHEMA))


def head_bytes(stream: bytes) -> int:
    """Returns the offset of its values."""
    messages = pa.ipc.MessageReader.open_stream(stream)
    return sum(8 + messages.read_next_message().metadata.size for _ in range(2))


def spots(stream: bytes, where: str, seed: int) -> list[tuple[int, bytes]]:
    """Returns places and what is written there: lengths and offsets beyond all bounds, in the metadata and in the views of texts."""
    chance, head = random.Random(seed), head_bytes(stream)
    if where == "metadata":
        return [(chance.randrange(8, head - 8) & ~3, chance.choice((b"\xff" * 8, b"\xff\xff\xff\x7f", bytes(4)))) for _ in range(40)]
    evil = struct.pack("<i4sii", 2**31 - 1, b"evil", chance.choice((0, 2**31 - 1)), 2**31 - 1)
    return [(head + 64 * chance.randrange((len(stream) - head - 64) // 64) + 16 * i, evil) for i in range(4) for _ in range(200)]


@contextmanager
def changing(memory: memoryview, good: bytes, where: str, seed: int) -> Iterator[None]:
    """Keeps changing parts of it to invalid and back to valid bytes."""
    over, chosen = threading.Event(), spots(good, where, seed)

    def change() -> None:
        while not over.is_set():
            for at, evil in chosen:
                memory[at : at + len(evil)] = evil
            for at, evil in chosen:
                memory[at : at + len(evil)] = good[at : at + len(evil)]

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def door() -> Iterator[FrontDoor]:
    with FrontDoor() as found:
        yield found


def response_of(door: FrontDoor, worker: BareWorker, body: bytes, where: str | None, seed: int = 0, reply: bytes | None = None) -> Answer:
    """Returns the response to a client whose rows are echoed, or replaced by this `reply`, while it is changed `where`."""
    frame = body if reply is None else reply
    rows = pa.ipc.open_stream(body).read_all().num_rows
    with Raw(door.address) as client:
        client.send(post("/echo", body, f"Accept: {ARROW}; views=true").replace(b"application/json", ARROW.encode(), 1))
        batch = worker.batch()
        worker.channel.send_message(ReplyTooLarge(batch.batch_id, len(frame)))
        while not isinstance(granted := worker.receive(), ReplyBuffer):
            pass
        memory = worker.view(granted.reply)[: len(frame)]
        memory[:] = frame
        with changing(memory, frame, where, seed) if where else nullcontext():
            worker.channel.send_message(Reply(batch.batch_id, rows, len(frame), Flag.SCHEMA))
            return client.answer()


@pytest.mark.parametrize("body", [LARGE, SMALL], ids=["sent as it lies", "copied"])
@pytest.mark.parametrize("where", ["metadata", "values"])
def test_a_reply_that_changes_while_it_is_read_crashes_nothing(door: FrontDoor, tmp_path: Path, where: str, body: bytes) -> None:
    """Its worker is given up, or it is sent as it then was, which it always is where nobody here looks at its values; the next worker's
    answer is right, from the same front door."""
    assert (len(body) > MB) == (body is LARGE)
    unread = where == "values" and body is LARGE
    for number in range(1, ROUNDS + 1):
        with BareWorker(tmp_path / f"w{number}") as worker:
            put_in_force(door, number, worker)
            assert response_of(door, worker, body, where, number).status in ({200} if unread else {200, 503})
    with BareWorker(tmp_path / "honest") as worker:
        put_in_force(door, ROUNDS + 1, worker)
        answer = response_of(door, worker, body, None)
    assert pa.ipc.open_stream(answer.body).read_all() == pa.ipc.open_stream(body).read_all()


def put_in_force(door: FrontDoor, generation: int, worker: BareWorker) -> None:
    door.send_message(RoutingTable(generation, [Route(WORDS, [worker.path])], startup_complete=True))
    worker.greet("tiny", "1")
    while door.next_message() != TableApplied(generation):
        pass


def with_more() -> bytes:
    """Returns a frame that is large although it is compressed."""
    return hostile_bodies.stream(hostile_bodies.good(rows=40_000).cast(hostile_bodies.SCHEMA), compression="zstd") + bytes(2 * MB)


BROKEN = {
    "another number of rows": lambda: hostile_bodies.stream(hostile_bodies.good(rows=40_001).cast(hostile_bodies.SCHEMA)),
    "another schema": lambda: hostile_bodies.stream(pa.table({name: np.zeros(40_000) for name in "abcd"})),
    "half of it": lambda: LARGE[: len(LARGE) // 2],
    "a buffer beyond the body": lambda: LARGE.replace(struct.pack("<q", 40_000 * 8), struct.pack("<q", 2**40)),
    "a buffer that is too short": lambda: LARGE.replace(struct.pack("<q", 40_000 * 8), struct.pack("<q", 8)),
    "compressed buffers": with_more,
    "noise behind it": lambda: LARGE[:-8] + b"\xff" * 64,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_large_reply_with_parts_outside_its_slot_is_no_response(door: FrontDoor, tmp_path: Path, name: str) -> None:
    """Although nobody reads its values, it is a 503, and the worker is given up."""
    reply = BROKEN[name]()
    assert len(reply) > MB
    with BareWorker(tmp_path / "w") as worker:
        put_in_force(door, 1, worker)
        assert response_of(door, worker, LARGE, None, reply=reply).status == 503
        assert worker.is_given_up()


def test_bytes_behind_a_large_reply_reach_nobody(door: FrontDoor, tmp_path: Path) -> None:
    """The client gets the rows of its request, as one stream."""
    twice = LARGE[:-8] + LARGE[hostile_bodies.SCHEMA.serialize().size :]
    with BareWorker(tmp_path / "w") as worker:
        put_in_force(door, 1, worker)
        answer = response_of(door, worker, LARGE, None, reply=twice)
    assert pa.ipc.open_stream(answer.body).read_all() == pa.ipc.open_stream(LARGE).read_all()
    assert answer.body.endswith(LARGE[-16:])
