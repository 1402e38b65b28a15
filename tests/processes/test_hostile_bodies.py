"""Malicious bodies: each is refused as the client's error, the front door's memory is bounded, and it answers the next request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

import arrow_bombs
import hostile_bodies as hostile
import parquet_bombs
import parquet_tricks
from base.ipc.front_door_control import Route, RoutingTable, TableApplied
from base.ipc.protocol import Reply
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from front_process import BareWorker, FrontDoor
from rawhttp import Raw, post
from waiting import until

MB = 1024**2
GROWS_MAX_BYTES = 400 * MB
"""What a body may hold once it is expanded, 256 MB, and once more what is half of that. A terabyte or 10^9 rows are not."""

PARQUET_GROWS_MAX_BYTES = 512 * MB
"""Twice what a body may hold: room for texts doubles as it grows."""

STAYS_MAX_BYTES = 128 * MB
"""What may stay a moment after the last body: a third of what a single one can take."""

BOMB_GROWS_MAX_BYTES = 200 * MB
"""What the expanded buffers of types take that are compressed, which are counted before they are expanded."""

PARQUETS = {"pages": parquet_bombs.PAGES, "bombs": parquet_bombs.BOMBS, "lies": parquet_bombs.LIES, "tricks": parquet_tricks.TRICKS}

MESSAGE = hostile.SCHEMA.serialize().to_pybytes()
LISTS = pa.schema([pa.field("l", pa.large_list(pa.int8()))]).serialize().to_pybytes()
ENDPOINTS = [
    EndpointSpec("typed", "/typed", [], MESSAGE, None, 64, 1),
    EndpointSpec("any", "/any", [], None, None, 64, 1),
    EndpointSpec("lists", "/lists", [], LISTS, None, 64, 1),
]
WORDS = ReleaseSpec("tiny", "1", ENDPOINTS)


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[BareWorker]:
    with BareWorker(tmp_path / "w") as found:
        yield found


@pytest.fixture
def door(worker: BareWorker) -> Iterator[FrontDoor]:
    with FrontDoor() as found:
        found.send_message(RoutingTable(1, [Route(WORDS, [worker.path])], startup_complete=True))
        worker.greet("tiny", "1")
        while found.next_message() != TableApplied(1):
            pass
        yield found


def assert_it_goes_on(door: FrontDoor, worker: BareWorker, before: int) -> None:
    """Asserts that the same process answers, and that its memory never grew too much."""
    with Raw(door.address) as client:
        client.send(post("/typed", [{"a": 1}]))
        batch = worker.batch()
        frame = hostile.stream(hostile.good(rows=1).select(["a"]).rename_columns(["prediction"]))
        worker.view(batch.reply)[: len(frame)] = frame
        worker.channel.send_message(Reply(batch.batch_id, 1, len(frame), 1))
        assert client.answer().json()["predictions"] == [0.5]
    assert door.highest_bytes() - before < GROWS_MAX_BYTES


@pytest.mark.parametrize("media", hostile.BODIES)
def test_a_hostile_body_is_refused_with_a_4xx(door: FrontDoor, worker: BareWorker, media: str) -> None:
    """Each named one with a 4xx."""
    before = door.highest_bytes()
    for name, body in hostile.BODIES[media].items():
        with Raw(door.address) as client:
            client.send(post("/typed", body).replace(b"application/json", media.encode(), 1))
            answer = client.answer()
            assert 400 <= answer.status < 500, (name, answer)
            assert len(answer.body) < MB, name
    assert_it_goes_on(door, worker, before)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bodies", PARQUETS.values(), ids=PARQUETS)
def test_a_dishonest_parquet_file_is_refused_before_it_is_expanded(
    door: FrontDoor, worker: BareWorker, bodies: dict[str, Callable[[], bytes]]
) -> None:
    """Cases are bombs of each codec, repeated values, and false claims of footers and pages, with a schema and without."""
    before = door.highest_bytes()
    for name, make in bodies.items():
        body = make()
        for path in ("/typed", "/any"):
            start = door.reset_highest_bytes()  # what the request before took is given back later
            with Raw(door.address) as client:
                client.socket.settimeout(120)  # some take seconds of processor time, and the machine may be busy
                client.send(post(path, body).replace(b"application/json", b"application/vnd.apache.parquet", 1))
                assert 400 <= client.answer().status < 500, name
            assert door.highest_bytes() - start < PARQUET_GROWS_MAX_BYTES, name
    until(lambda: door.reset_highest_bytes() - before < STAYS_MAX_BYTES, "memory of the bodies is given back")
    assert_it_goes_on(door, worker, before)


@pytest.mark.timeout(300)
def test_an_arrow_stream_of_values_without_bytes_is_refused_before_it_is_expanded(door: FrontDoor, worker: BareWorker) -> None:
    """So is one whose values share bytes, whatever its layout, with a schema and without: as a 413, and without memory."""
    before = door.reset_highest_bytes()
    for name, body in arrow_bombs.bodies():
        for path in ("/any", "/lists"):
            with Raw(door.address) as client:
                client.send(post(path, body).replace(b"application/json", b"application/vnd.apache.arrow.stream", 1))
                assert client.answer().status == 413, (name, path)
    assert door.highest_bytes() - before < BOMB_GROWS_MAX_BYTES
    assert_it_goes_on(door, worker, before)


def test_a_reply_that_expands_to_gigabytes_is_the_models_error(door: FrontDoor, worker: BareWorker) -> None:
    """The front door answers with a 500 before it expands the reply: values without bytes, shared ones, and long names of columns."""
    before = door.reset_highest_bytes()
    replies = [(name, body, 1) for name, body in arrow_bombs.bodies("prediction") if name.split()[0] != "column" and "union" not in name]
    replies.append(("names", hostile.stream(pa.table({"x" * 30_000: pa.nulls(20_000)})), 20_000))
    seen = 0
    for name, body, rows in replies:
        with Raw(door.address) as client:
            client.send(post("/any", [{"a": 1}] * rows))
            batch = worker.batch()
            fits = len(body) <= batch.reply.length
            frame = body if fits else hostile.stream(pa.table({"prediction": [1.0]}))
            worker.view(batch.reply)[: len(frame)] = frame
            worker.channel.send_message(Reply(batch.batch_id, rows, len(frame), 1))
            answer = client.answer()
            assert (answer.status, answer.json().get("code")) == ((500, "bad_result") if fits else (200, None)), name
            seen += fits
    assert seen > 60
    assert door.highest_bytes() - before < BOMB_GROWS_MAX_BYTES
    assert_it_goes_on(door, worker, before)


def test_hostile_rows_without_a_schema_do_not_crash_it(door: FrontDoor, worker: BareWorker) -> None:
    """Values are nested until a stack overflows, and there are hundreds of thousands of columns, each of which takes time."""
    before = door.highest_bytes()
    bodies = [(media, name, found[name]) for media, found in hostile.BODIES.items() for name in hostile.WITHOUT_SCHEMA if name in found]
    assert len({name for _, name, _ in bodies}) == len(hostile.WITHOUT_SCHEMA)
    for media, name, body in bodies:
        with Raw(door.address) as client:
            client.send(post("/any", body).replace(b"application/json", media.encode(), 1))
            assert 400 <= client.answer().status < 500, (media, name)
    assert_it_goes_on(door, worker, before)
