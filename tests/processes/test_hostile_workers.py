"""Workers that break the protocol: each loses its channel, the supervisor is told, and the front door answers and goes on."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import polars as pl
import pyarrow as pa
import pytest

from base.errors import Misfit, PeerError
from base.ipc.control import WIRE_VERSION
from base.ipc.failure import encode_error
from base.ipc.front_door_control import Route, RoutesDrained, RoutingTable, TableApplied, WorkerUnhealthy
from base.ipc.protocol import (
    Batch,
    Failure,
    Flag,
    Message,
    NextPart,
    ParametersAccepted,
    Reply,
    ReplyBuffer,
    ReplyTooLarge,
    Started,
    StreamEnd,
    StreamPart,
    Welcome,
)
from base.ipc.release_spec import EndpointSpec, ReleaseSpec, release_tag
from base.schema import wire
from base.schema.wire import Column
from front_process import BareWorker, FrontDoor
from process_children import nameless_files
from rawhttp import Raw, post
from supervisor_harness import Supervised
from tinypex import write_tiny
from waiting import until

SCHEMA = wire.columns_to_arrow({"a": Column(pl.Float64(), False), "s": Column(pl.String(), True)})
WORDS = ReleaseSpec(
    "tiny", "1", [EndpointSpec("echo", "/echo", [], SCHEMA.serialize().to_pybytes(), SCHEMA.serialize().to_pybytes(), 64, 1)]
)
ROWS = [{"a": 1.5, "s": "one that is too long for its view"}, {"a": 2.5, "s": "ü" * 20}]
MB = 1024**2


def good(count: int = 2) -> bytes:
    rows = [pa.array([row[name] for row in ROWS[:count]], SCHEMA.field(name).type) for name in ("a", "s")]
    return pa.RecordBatch.from_arrays(rows, schema=SCHEMA).serialize().to_pybytes()


def with_view(length: int, buffer: int, offset: int) -> bytes:
    """Returns a frame whose second text view points to other bytes.

    Layout: https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    """
    frame, view = good(), struct.pack("<i4sii", 40, "ü".encode() * 2, 0, 33)
    assert frame.count(view) == 1
    return frame.replace(view, struct.pack("<i4sii", length, "ü".encode() * 2, buffer, offset))


def send_reply(frame: bytes, rows: int = 2, flags: int = 0, tag: int = 0) -> Callable[[BareWorker, Batch], None]:
    """Writes these bytes and sends a message that they are the reply."""

    def reply(worker: BareWorker, batch: Batch) -> None:
        worker.view(batch.reply)[: len(frame)] = frame
        worker.channel.send_message(Reply(batch.batch_id, rows, len(frame), flags, tag))

    return reply


def sent(word: Callable[[Batch], Message]) -> Callable[[BareWorker, Batch], None]:
    return lambda worker, batch: worker.channel.send_message(word(batch))


def bytes_sent(data: bytes) -> Callable[[BareWorker, Batch], None]:
    return lambda worker, _: worker.socket.sendall(data)


def stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue().to_pybytes()


HOSTILE = {
    "noise instead of a message": bytes_sent(os.urandom(100)),
    "less than a header": bytes_sent(b"\x06"),
    "nothing but zeros": bytes_sent(bytes(32)),
    "a word of a front door": sent(lambda batch: ReplyBuffer(batch.batch_id, batch.reply)),
    "a reply to what it was not asked": sent(lambda batch: Reply(batch.batch_id + 1, 2, 0, 0)),
    "a reply longer than its place": sent(lambda batch: Reply(batch.batch_id, 2, batch.reply.length + 1, 0)),
    "a reply of more bytes than there are": sent(lambda batch: Reply(batch.batch_id, 2, 2**64 - 1, 0)),
    "errors of groups of which there are none": sent(lambda batch: Reply(batch.batch_id, 2, 0, 0, 0, 2)),
    "a reply of no bytes": send_reply(b""),
    "a failure that is no JSON": sent(lambda batch: Failure(batch.batch_id, b"\xff")),
    "a failure that is no UTF-8": sent(lambda batch: Failure(batch.batch_id, b'{"code":"\xff"}')),
    "a failure that is nested too deep": sent(lambda batch: Failure(batch.batch_id, b'{"x":' + b"[" * 60_000)),
    "a second introduction": sent(lambda _: Welcome(WIRE_VERSION, "tiny", "1", 0)),
    "a part of what is not streamed": sent(lambda batch: StreamPart(batch.batch_id, 10)),
    "a beginning that it was not asked for": sent(lambda batch: Started(batch.batch_id)),
    "the end of what is not streamed": sent(lambda batch: StreamEnd(batch.batch_id, 0)),
    "fewer rows than it says": send_reply(good(), rows=3),
    "rows for other rows": send_reply(good(1), rows=1),
    "noise for a frame": send_reply(os.urandom(3000)),
    "zeros for a frame": send_reply(bytes(3000)),
    "metadata longer than all": send_reply(b"\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(100)),
    "metadata of a negative length": send_reply(b"\xff\xff\xff\xff\xff\xff\xff\xff" + bytes(100)),
    "half a frame": send_reply(good()[:-60]),
    "another schema": send_reply(stream(pa.table({"a": [1.0, 2.0], "s": [1, 2]})), flags=Flag.SCHEMA),
    "nulls where none are allowed": send_reply(
        stream(pa.table({"a": [1.0, None], "s": pa.array(["x", "y"], pa.string_view())})), flags=Flag.SCHEMA
    ),
    "a text beyond its buffer": send_reply(with_view(40, 0, 2**30)),
    "a text of a negative length": send_reply(with_view(-40, 0, 33)),
    "a text at a negative offset": send_reply(with_view(40, 0, -5)),
    "a text in a buffer that is not there": send_reply(with_view(40, 9, 33)),
    "a text longer than its buffer": send_reply(with_view(2**31 - 1, 0, 33)),
    "a text that is no UTF-8": send_reply(good().replace("ü".encode(), b"\xc3\xc3")),
}  # fmt: skip


@pytest.fixture
def door() -> Iterator[FrontDoor]:
    with FrontDoor() as found:
        yield found


def put_in_force(door: FrontDoor, generation: int, worker: BareWorker, release: int = 0, release_id: str = "") -> list[object]:
    """Makes this the only worker, and returns the messages received meanwhile."""
    door.send_message(RoutingTable(generation, [Route(WORDS, [worker.path], release_id)], startup_complete=True))
    worker.greet("tiny", "1", release)
    heard: list[object] = []
    while TableApplied(generation) not in heard:
        heard.append(door.next_message())
    return heard


def test_only_a_worker_that_breaks_the_protocol_is_given_up(door: FrontDoor, tmp_path: Path) -> None:
    """One front door meets one after the other: the request is a 503, the supervisor is told, and the last, honest worker answers."""
    before = None
    for number, (name, breaks) in enumerate(HOSTILE.items(), 1):
        with BareWorker(tmp_path / f"w{number}") as worker:
            put_in_force(door, number, worker)
            before = before or door.highest_bytes()
            with Raw(door.address) as client:
                client.send(post("/echo", ROWS))
                breaks(worker, worker.batch())
                assert client.answer().status == 503, name
            assert worker.is_given_up(), name
            while isinstance(told := door.next_message(), RoutesDrained):
                pass
            assert isinstance(told, WorkerUnhealthy), name
            assert told.socket == worker.path
    with BareWorker(tmp_path / "honest") as worker, Raw(door.address) as client:
        put_in_force(door, 1000, worker)
        client.send(post("/echo", ROWS))
        send_reply(good())(worker, worker.batch())
        assert client.answer().json()["predictions"] == ROWS
    assert before is not None
    assert door.highest_bytes() < before + 64 * MB


def test_rows_without_values_are_bounded(door: FrontDoor, tmp_path: Path) -> None:
    """An endpoint that takes whole requests may answer any number of rows, but not billions in a few bytes."""
    spec = ReleaseSpec("tiny", "1", [EndpointSpec("whole", "/whole", [], None, None, 1, 0, whole=True)])
    nulls = pa.nulls(2**31 - 1)
    for number, (rows, status) in enumerate(((1_000_000, 200), (len(nulls), 503)), 1):
        with BareWorker(tmp_path / f"w{number}") as worker, Raw(door.address) as client:
            door.send_message(RoutingTable(number, [Route(spec, [worker.path])], startup_complete=True))
            worker.greet("tiny", "1", 0)
            while TableApplied(number) != door.next_message():
                pass
            client.send(post("/whole", ROWS))
            send_reply(stream(pa.table({"n": nulls[:rows]})), rows=rows, flags=Flag.SCHEMA)(worker, worker.batch())
            answer = client.answer()
            assert answer.status == status
            if status == 200:
                assert answer.json()["predictions"] == [{"n": None}] * rows
            else:
                assert "broke the protocol" in answer.json()["detail"]


def test_errors_of_groups_that_a_worker_does_not_have_break_the_protocol(door: FrontDoor, tmp_path: Path) -> None:
    """The only group of the request is number 0. Other bytes than its error are no answer, nor are bytes beyond the reply's place."""
    spec = ReleaseSpec("tiny", "1", [EndpointSpec("grouped", "/grouped", [], None, None, 1, 0, whole=True, group_by=["a"])])
    frame = stream(pa.table({"a": [1.5]}))
    error = b'{"code":"misfit","detail":"no"}'
    bodies = [b"\xff", b"[]", *(b'{"%b":%b}' % each for each in ((b"x", error), (b"0", b"{}"), (b"-1", error), (b"1", error)))]
    for number, body in enumerate([*bodies, b'{"0":%b}' % error], 1):
        with BareWorker(tmp_path / f"w{number}") as worker, Raw(door.address) as client:
            door.send_message(RoutingTable(number, [Route(spec, [worker.path])], startup_complete=True))
            worker.greet("tiny", "1", 0)
            while TableApplied(number) != door.next_message():
                pass
            client.send(post("/grouped", ROWS[:1]))
            batch = worker.batch()
            worker.view(batch.reply)[: len(frame) + len(body)] = frame + body
            length = len(body) if number <= len(bodies) else batch.reply.length  # which is too long behind a frame
            worker.channel.send_message(Reply(batch.batch_id, 1, len(frame), Flag.SCHEMA, 0, length))
            answer = client.answer()
            assert (answer.status, "broke the protocol" in answer.json()["detail"]) == (503, True), body
            assert worker.is_given_up(), body


MINE, BEFORE, OTHER = (release_tag(*each) for each in (("tiny", "1", "new"), ("tiny", "1", "old"), ("other", "1", "new")))
BY_ANOTHER: dict[str, Callable[[int], Callable[[BareWorker, Batch], None]]] = {
    "a right reply": lambda tag: send_reply(good(), tag=tag),
    "a failure": lambda tag: sent(lambda batch: Failure(batch.batch_id, encode_error(Misfit("no")), 0, tag)),
    "a part": lambda tag: sent(lambda batch: StreamPart(batch.batch_id, 1, tag)),
    "an end": lambda tag: sent(lambda batch: StreamEnd(batch.batch_id, 0, tag)),
    "parameters": lambda tag: sent(lambda batch: ParametersAccepted(batch.batch_id, tag)),
}


def test_no_answer_of_another_release_is_ever_given(door: FrontDoor, tmp_path: Path) -> None:
    """Not of other content under the same name and version, nor of another model, nor of a worker that no longer says who it is."""
    generation = 0
    for name, answer in BY_ANOTHER.items():
        for tag in (BEFORE, OTHER, 0):
            generation += 1
            with BareWorker(tmp_path / f"w{generation}") as worker, Raw(door.address) as client:
                put_in_force(door, generation, worker, MINE, "new")
                client.send(post("/echo", ROWS))
                answer(tag)(worker, worker.batch())
                refused = client.answer()
                assert (refused.status, refused.json()["code"]) == (503, "unavailable"), (name, tag)
                assert worker.is_given_up()
                while isinstance(told := door.next_message(), RoutesDrained):
                    pass
                assert isinstance(told, WorkerUnhealthy)
                assert f"an answer of another release, with tag {tag:016x}" in told.reason
    for tag in (MINE, release_tag("tiny", "1", ""), 0):
        generation += 1
        with BareWorker(tmp_path / f"w{generation}") as worker, Raw(door.address) as client:
            put_in_force(door, generation, worker, tag, "new")
            client.send(post("/echo", ROWS))
            send_reply(good(), tag=tag)(worker, worker.batch())
            assert client.answer().json()["predictions"] == ROWS
    for tag in (BEFORE, OTHER):
        generation += 1
        with BareWorker(tmp_path / f"w{generation}") as worker:
            heard = put_in_force(door, generation, worker, tag, "new")
            assert worker.is_given_up()
            assert any("with other content" in each.reason for each in heard if isinstance(each, WorkerUnhealthy))


def test_a_reply_buffer_beyond_the_limit_is_refused(door: FrontDoor, tmp_path: Path) -> None:
    """Asking for it breaks no rule: the request is a 500 that no second try helps, and the worker goes on with the next."""
    with BareWorker(tmp_path / "w") as worker, Raw(door.address) as client:
        put_in_force(door, 1, worker)
        client.send(post("/echo", ROWS))
        batch = worker.batch()
        worker.channel.send_message(ReplyTooLarge(batch.batch_id, 2**62))
        answer = client.answer()
        assert (answer.status, answer.json()["code"]) == (500, "bad_result")
        assert "raise response_max_bytes" in answer.json()["detail"]
        assert str(2**62) not in answer.json()["detail"]
        granted = worker.receive()
        assert isinstance(granted, ReplyBuffer)
        assert granted.reply.length == 0
        client.send(post("/echo", ROWS))
        send_reply(good())(worker, worker.batch())
        assert client.answer().status == 200


def test_a_part_that_was_not_asked_for_breaks_the_protocol(door: FrontDoor, tmp_path: Path) -> None:
    """A worker that floods its channel with parts loses it, and the client gets an error after those that were asked for."""
    streaming = ReleaseSpec("tiny", "1", [EndpointSpec("stream", "/stream", [], None, None, 64, 1, unbatched=True, streams=True)])
    with BareWorker(tmp_path / "w") as worker, Raw(door.address) as client:
        door.send_message(RoutingTable(1, [Route(streaming, [worker.path])], startup_complete=True))
        worker.greet("tiny", "1")
        while door.next_message() != TableApplied(1):
            pass
        client.send(post("/stream", ROWS))
        batch = worker.batch()
        worker.view(batch.reply)[:4] = b'"x"\n'
        with contextlib.suppress(PeerError):  # once the front door has closed the channel
            while True:
                worker.channel.send_message(StreamPart(batch.batch_id, 4))
        answer = client.answer()
        assert b'"unavailable"' in answer.body
        while not isinstance(door.next_message(), WorkerUnhealthy):
            pass


WHOLE = ReleaseSpec("tiny", "1", [EndpointSpec("echo", "/echo", [], None, None, 64, 1, whole=True, reply_parts=True)])


def test_a_reply_in_parts_is_not_trusted(door: FrontDoor, tmp_path: Path) -> None:
    """A worker that breaks the rules loses its channel. One whose parts are no rows is a 500, and goes on. No file is left."""
    before = {*nameless_files(door.process.pid)}

    def part(batch: Batch, length: int) -> StreamPart:
        return StreamPart(batch.batch_id, length)

    rubbish = stream(pa.table({"a": [1.0, 2.0]}))[:-9]
    cases: dict[str, tuple[int, Callable[[Batch], list[Message]]]] = {
        "a part before the last one was taken": (503, lambda batch: [part(batch, 10)] * 3),
        "a part larger than its place": (503, lambda batch: [part(batch, MB + 1)]),
        "no part": (503, lambda batch: [Reply(batch.batch_id, 2, 0, Flag.SCHEMA)]),
        "a reply behind a part that is not taken": (503, lambda batch: [part(batch, 10), Reply(batch.batch_id, 2, 0, Flag.SCHEMA)]),
        "rubbish": (500, lambda batch: [part(batch, len(rubbish)), NextPart(batch.batch_id), Reply(batch.batch_id, 2, 0, Flag.SCHEMA)]),
    }
    for generation, (name, (status, messages)) in enumerate(cases.items(), 1):
        with BareWorker(tmp_path / f"w{generation}") as worker, Raw(door.address) as client:
            door.send_message(RoutingTable(generation, [Route(WHOLE, [worker.path], str(generation))], startup_complete=True))
            worker.greet("tiny", "1")
            while door.next_message() != TableApplied(generation):
                pass
            client.send(post("/echo", ROWS))
            batch = worker.batch()
            worker.channel.send_message(ReplyTooLarge(batch.batch_id, 40 * MB))
            while not isinstance(granted := worker.receive(), ReplyBuffer):
                pass
            assert (granted.flags, granted.reply.length) == (Flag.PARTS, MB)
            worker.view(granted.reply)[: len(rubbish)] = rubbish
            with contextlib.suppress(PeerError):  # once the front door has closed the channel
                for message in messages(batch):
                    if isinstance(message, NextPart):
                        assert worker.receive() == message
                    else:
                        worker.channel.send_message(message)
            assert client.answer().status == status, name
            until(lambda: {*nameless_files(door.process.pid)} == before)


NOISY = """
    import contextlib, os, socket
    import polars as pl
    import base.service as svc

    @svc.endpoint(path="/tiny")
    def predict(records_df: pl.DataFrame):
        for fd in map(int, os.listdir("/proc/self/fd")) if records_df["x"][0] < 0 else ():
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(fd)) as found:
                if found.type == {kind}:
                    found.send({data!r})
        return records_df["x"]
"""


@pytest.mark.parametrize(
    ("kind", "data", "reason"),
    [
        ("socket.SOCK_SEQPACKET", b"noise", "a front door reported its worker as unhealthy: a message of"),
        ("socket.SOCK_STREAM", b'{"type":"drain"}\n' * 1000, ""),
        ("socket.SOCK_STREAM", b'{"type":' + b"[" * 3000 + b"\n", ""),
    ],
    ids=["noise", "unexpected messages", "a deep message"],
)
def test_the_supervisor_replaces_a_hostile_worker(tmp_path: Path, kind: str, data: bytes, reason: str) -> None:
    """A handler writes to the channel or control socket, and its process lives on. The model answers again from another process."""
    with Supervised(tmp_path) as supervised:
        write_tiny(supervised.dist / "tiny.pex", "tiny", module=NOISY.format(kind=kind, data=data))
        (pid,) = supervised.until_state("tiny.pex", "ready")["worker_pids"]
        supervised.until(lambda: supervised.predictions("/tiny") == [3])
        address = supervised.state()["address"]
        assert httpx.post(f"{address}/tiny", json=[{"x": -1}], timeout=20).status_code in ({503} if reason else {200, 503})
        supervised.until(lambda: pid not in supervised.until_state("tiny.pex", "ready")["worker_pids"])
        supervised.until(lambda: supervised.predictions("/tiny") == [3])
        report = supervised.until_state("tiny.pex", "ready")
        environment = Path(f"/proc/{report['worker_pids'][0]}/environ").read_bytes().split(b"\0")
        assert f"PEXDOCK_RELEASE_ID={report['sha256']}".encode() in environment  # all its answers carry a tag made of this
        assert reason in report["reason"]
