"""Responses that a handler shapes, read by h11: each ends where its client expects it, and the next one is that of the next request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import base.service as svc
from base.endpoint.raw import RAW_RESPONSE_SCHEMA
from base.errors import Cell, Reject
from base.ipc.front_door_control import Configure, Route, RoutingTable, TableApplied
from base.ipc.protocol import Flag, Reply
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from base.testing import TestClient
from front_process import BareWorker, FrontDoor
from h11_client import KeptConnection
from rawhttp import Answer, Raw, chunked, get, post

SMUGGLED = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nsmuggled"
BODIES = (b"", b"some", SMUGGLED)

SPECIAL = (
    0,
    99,
    100,
    101,
    102,
    103,
    199,
    200,
    201,
    204,
    205,
    206,
    299,
    300,
    301,
    304,
    399,
    400,
    401,
    404,
    407,
    408,
    426,
    499,
    500,
    599,
    600,
)
"""The borders of each class, and those to which HTTP gives another framing or meaning."""


def next_answer(client: KeptConnection, number: int) -> None:
    """Asserts that the next response on the connection is the right one, and of another endpoint."""
    (answer,) = client.send(post("/double", [{"a": number}]), "POST")
    assert (answer.status, answer.json()["predictions"]) == (200, [2.0 * number])
    assert client.is_kept


# ---- handlers, through all of a development server


class Forged(svc.Response):
    """A response of an author who does not want it to be checked."""

    def __post_init__(self) -> None:
        pass


@svc.endpoint("/double")
def double(records_df: pl.DataFrame) -> pl.Series:
    return records_df["a"] * 2.0


@svc.endpoint("/made", raw=True)
def made(request: svc.Request) -> svc.Response:
    return response_of(svc.Response, request)


@svc.endpoint("/forged", raw=True)
def forged(request: svc.Request) -> svc.Response:
    return response_of(Forged, request)


def response_of(kind: type[svc.Response], request: svc.Request) -> svc.Response:
    return kind(request.body, request.query.get("type", ["text/plain"])[0], int(request.query["status"][0]))


@svc.endpoint("/parts")
def parts(records_df: pl.DataFrame) -> Iterator[Any]:
    for i in range(int(records_df["parts"][0])):
        yield {"part": i}


@svc.endpoint("/part-of-another-kind")
def part_of_another_kind(records_df: pl.DataFrame) -> Iterator[Any]:
    yield svc.Response(SMUGGLED)


REJECTS = {
    "a status of numpy": lambda: Reject(np.int64(409), "no"),
    "a status that is a fraction": lambda: Reject(409.0, "no"),  # type: ignore[arg-type]
    "a status beyond its class": lambda: Reject(204, "no"),
    "line ends": lambda: Reject(409, SMUGGLED.decode()),
    "half a character": lambda: Reject(409, "no \ud83d"),
    "no text": lambda: Reject(409, None),  # type: ignore[arg-type]
    "cells of other types": lambda: Reject(409, "no", cells=[Cell(np.int64(0), "a\udfff", 7)]),  # type: ignore[arg-type]
}


@svc.endpoint("/rejects", raw=True)
def rejects(body: bytes) -> bytes:
    error = REJECTS[body.decode()]()
    raise error


@pytest.fixture(scope="module")
def served() -> Iterator[TestClient]:
    with TestClient(double, made, forged, parts, part_of_another_kind, rejects) as client:
        client.post("/double", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


@pytest.mark.parametrize("path", ["/made", "/forged"])
def test_a_response_of_a_handler_is_sent_if_http_allows_it_and_is_a_500_otherwise(served: TestClient, path: str) -> None:
    """Its author chose status and body. Everything is on one connection, and the next response is always the right one."""
    with KeptConnection(served.address) as client:
        for number, status in enumerate(SPECIAL):
            for body in BODIES:
                (answer,) = client.send(post(f"{path}?status={status}", body), "POST")
                assert client.is_kept
                if 200 <= status <= 299 and not (body and status in (204, 205)):
                    assert (answer.status, answer.body) == (status, body)
                    assert ("content-type" in answer.headers) == (status not in (204, 205))
                    assert answer.headers.get("content-length") == (None if status == 204 else str(len(body)))
                else:
                    assert (answer.status, answer.json()["code"]) == (500, "bad_result")
            next_answer(client, number)


def test_pipelined_requests_get_their_own_responses_whatever_a_handler_makes(served: TestClient) -> None:
    """The requests are sent at once, those of HTTP/1.0 and with `Connection: close` last."""
    for last in (post("/forged?status=204", SMUGGLED, version="1.0"), post("/forged?status=204", b"", "Connection: close")):
        requests = [
            *(post(f"/forged?status={status}", SMUGGLED) + post("/double", [{"a": status}]) for status in (101, 204, 205, 304)),
            get("/forged", "HEAD") + get("/livez", "HEAD") + get("/forged", "OPTIONS"),
            chunked("/parts", {"parts": 3}) + chunked("/parts", {"parts": 0}),
            last,
        ]
        with KeptConnection(served.address) as client:
            answers = client.send(b"".join(requests), *["POST"] * 8, "HEAD", "HEAD", "OPTIONS", *["POST"] * 3)
            statuses = [*[500, 200] * 4, 405, 200, 405, 200, 200, 204 if last.endswith(b"\n") else 500]
            assert [each.status for each in answers] == statuses
            assert [each.json()["predictions"] for each in answers[1:8:2]] == [[202.0], [408.0], [410.0], [608.0]]
            assert [each.body for each in answers[8:10]] == [b"", b""]
            assert answers[11].body.splitlines() == [b'{"part":0}', b'{"part":1}', b'{"part":2}']
            assert answers[12].body == b""
            assert answers[13].headers["connection"] == "close"
            assert client.ended()


def test_a_stream_to_a_client_of_http_1_0_has_no_chunks_although_it_offers_another_protocol(served: TestClient) -> None:
    """It ends with the connection; the offer is ignored (RFC 9110, 7.8)."""
    for offer in ((), ("Connection: Upgrade, keep-alive", "Upgrade: h2c")):
        with Raw(served.address) as raw:
            raw.send(post("/parts", {"parts": 2}, *offer, version="1.0"))
            answer = raw.answer()
            assert (answer.status, answer.body) == (200, b'{"part":0}\n{"part":1}\n')
            assert "transfer-encoding" not in answer.headers


MEDIA_TYPES = {
    "line ends": ("text/plain\r\nx-forged: 1", False),
    "the end of the head": ("text/plain\r\n\r\nsmuggled", False),
    "a bare LF": ("text/plain\nx-forged: 1", False),
    "a bare CR": ("text/plain\rx-forged: 1", False),
    "a zero byte": ("text/plain\0", False),
    "a delete": ("text/plain\x7f", False),
    "beyond ASCII": ("text/plain; a=é", False),
    "half a character": ("text/\udc80", False),
    "no slash": ("json", False),
    "no subtype": ("text/", False),
    "spaces inside": ("text / plain", False),
    "two": ("text/plain, text/html", False),
    "an open quote": ('text/plain; a="b', False),
    "too long": ("text/" + "x" * 1000, False),
    "none": ("", True),
    "parameters": ('multipart/mixed; boundary="a b;c\\""; charset=utf-8', True),
    "a suffix": ("application/vnd.a-b_c.d+json;v=1", True),
}


@pytest.mark.parametrize("name", MEDIA_TYPES)
def test_a_media_type_that_is_none_is_refused_where_the_author_makes_it(name: str) -> None:
    """An empty one stands for a response without that header."""
    media_type, valid = MEDIA_TYPES[name]
    if valid:
        assert svc.Response(b"x", media_type).content_type == media_type
    else:
        with pytest.raises(ValueError, match="media type"):
            svc.Response(b"x", media_type)


@pytest.mark.parametrize("status", [204, 205])
def test_a_body_that_cannot_be_sent_is_refused_where_the_author_makes_it(status: int) -> None:
    """The message says what to do."""
    with pytest.raises(ValueError, match=f"status {status} has no body, and this has 1 bytes: use status 200, or an empty body"):
        svc.Response(b"x", status=status)
    assert svc.Response(b"", status=status).status == status


def test_a_part_of_a_stream_is_no_response_of_its_own(served: TestClient) -> None:
    """The error names the mistake, and the connection goes on."""
    with KeptConnection(served.address) as client:
        (answer,) = client.send(post("/part-of-another-kind", {"a": 1}), "POST")
        assert (answer.status, answer.json()["code"]) == (500, "bad_result")
        assert "yield them themselves" in answer.json()["detail"]
        next_answer(client, 1)


@pytest.mark.parametrize("name", REJECTS)
def test_a_rejection_with_anything_in_it_is_one_response(served: TestClient, name: str) -> None:
    """Whatever cannot be sent is replaced, and a status that is none is an error of the handler."""
    with KeptConnection(served.address) as client:
        (answer,) = client.send(post("/rejects", name.encode()), "POST")
        assert answer.status == (500 if name in ("a status that is a fraction", "a status beyond its class") else 409)
        assert answer.json()["status"] == answer.status
        next_answer(client, 1)


def test_a_stream_to_a_client_of_http_1_0_has_no_chunks(served: TestClient) -> None:
    """It ends with the connection (RFC 9112, 6.1), and a client that expects a 100 gets none (RFC 9110, 15.2)."""
    with KeptConnection(served.address) as client:
        (answer,) = client.send(post("/parts", {"parts": 2}, "Expect: 100-continue", "Connection: keep-alive", version="1.0"), "POST")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert not answer.headers.keys() & {"transfer-encoding", "content-length"}
        assert answer.body == b'{"part":0}\n{"part":1}\n'


@pytest.mark.parametrize("path", ["/double", "/double?", "/livez", "/nowhere"])
@pytest.mark.parametrize(
    "bad",
    [
        "HEAD {} HTTP/1.1\r\n\r\n",
        "HEAD {} HTTP/1.1\r\nHost: a\r\nX Y: z\r\n\r\n",
        "HEAD {} HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_a_refusal_of_head_has_no_body(served: TestClient, path: str, bad: str) -> None:
    """It is the last response, after those to earlier requests, and says how long a body it would have."""
    with KeptConnection(served.address) as client:
        good, refused = client.send(post("/double", [{"a": 1}]) + bad.format(path).encode(), "POST", "HEAD")
        assert good.json()["predictions"] == [2.0]
        assert (refused.status, refused.body, refused.headers["connection"]) == (400, b"", "close")
        assert int(refused.headers["content-length"]) > 0
        assert client.ended()


# ---- a worker that sends whatever it likes

SPEC = ReleaseSpec(
    "tiny",
    "1",
    [EndpointSpec("raw", "/raw", [], None, None, 1, 0, unbatched=True, raw=True), EndpointSpec("double", "/double", [], None, None, 64, 0)],
)


class Forger:
    """A front door with a worker that answers raw requests with forged responses, and others truthfully."""

    def __init__(self, door: FrontDoor, worker: BareWorker) -> None:
        self._worker = worker
        door.send_message(RoutingTable(1, [Route(SPEC, [worker.path])], startup_complete=True))
        worker.greet("tiny", "1")
        while door.next_message() != TableApplied(1):
            pass

    def reply(self, table: pa.RecordBatch) -> None:
        """Replies to the next batch with these rows."""
        batch = self._worker.batch()
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_batch(table)
        frame = sink.getvalue().to_pybytes()
        self._worker.view(batch.reply)[: len(frame)] = frame
        self._worker.channel.send_message(Reply(batch.batch_id, 1, len(frame), Flag.SCHEMA))

    def exchange(self, raw: Raw, path: str, reply: pa.RecordBatch) -> Answer:
        """Returns the response to a request that is answered with these rows."""
        raw.send(post(path, [{"a": 1}]))
        self.reply(reply)
        return raw.answer()


def forged_response(status: int, media_type: str, body: bytes | None) -> pa.RecordBatch:
    columns = [pa.array([body], pa.large_binary()), pa.array([media_type]), pa.array([status], pa.int16())]
    return pa.RecordBatch.from_arrays(columns, schema=RAW_RESPONSE_SCHEMA)


@pytest.fixture
def forger(tmp_path: Path) -> Iterator[tuple[FrontDoor, Forger]]:
    with FrontDoor(Configure()) as door, BareWorker(tmp_path / "w") as worker:
        yield door, Forger(door, worker)


def test_no_response_of_a_worker_ends_anywhere_but_at_its_end(forger: tuple[FrontDoor, Forger]) -> None:
    """The worker sends every status with every body, and any media type; the front door trusts none of it, and the worker goes on."""
    door, worker = forger
    forgeries = [(status, "text/plain", body) for status in (*range(99, 601), -1, 32767) for body in (b"", SMUGGLED)]
    forgeries += [(200, media_type, b"x") for media_type, valid in MEDIA_TYPES.values() if not valid and media_type.isprintable()]
    forgeries += [
        (200, media_type, b"x")
        for media_type in ("text/plain\r\nx: y", "text/plain\r\n\r\nsmuggled", "a/b\0", "é/b", "text/" + "x" * 10_000)
    ]
    plain = pa.RecordBatch.from_pydict({"prediction": [2.0]})
    with KeptConnection(door.address) as client:
        for number, (status, media_type, body) in enumerate(forgeries):
            client._raw.send(post("/raw", b"x"))
            worker.reply(forged_response(status, media_type, body))
            (answer,) = client.send(b"", "POST")
            assert client.is_kept, (status, body)
            if 200 <= status <= 299 and media_type == "text/plain" and not (body and status in (204, 205)):
                assert (answer.status, answer.body) == (status, body)
            else:
                assert (answer.status, answer.json()["code"]) == (500, "bad_result"), (status, media_type[:50], body)
            if number % 20 == 0:
                client._raw.send(post("/double", [{"a": 1}]))
                worker.reply(plain)
                (answer,) = client.send(b"", "POST")
                assert answer.json()["predictions"] == [2.0]


@pytest.mark.parametrize(
    "reply", [forged_response(200, "text/plain", None), pa.RecordBatch.from_pydict({"body": [1.0]})], ids=["null", "numbers"]
)
def test_a_reply_that_is_no_response_costs_a_worker_its_channel(forger: tuple[FrontDoor, Forger], reply: pa.RecordBatch) -> None:
    """Its request gets a 503, and the front door goes on."""
    door, worker = forger
    with Raw(door.address) as raw:
        refused = worker.exchange(raw, "/raw", reply)
        assert (refused.status, "broke the protocol" in refused.json()["detail"]) == (503, True)
        raw.send(get("/livez"))
        assert raw.answer().json() == {"live": True}
