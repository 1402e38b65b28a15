"""HTTP as bytes, on both paths through a front door: the fast path of plain predictions, and the ASGI application for all others."""

from __future__ import annotations

import email.utils
import random
import socket
import struct
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

import base.service as svc
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from front_process import own_front_door, peers
from gate import Gate
from rawhttp import DEADLINE_S, Raw, chunked, get, post
from waiting import until

BODY_MAX_BYTES = 3_000_000

gate = Gate()


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/double")
def double(records_df: Numbers.DataFrame) -> pl.Series:
    return records_df["a"] * 2


@svc.endpoint("/gated", batch_max_size=1)
def gated(records_df: Numbers.DataFrame) -> pl.Series:
    return gate.passed(records_df["a"])


@svc.endpoint("/long")
def long(records_df: Numbers.DataFrame) -> list[str]:
    return ["x" * 100_000] * records_df.height


@svc.endpoint("/named/{name}")
def named(records_df: Numbers.DataFrame, name: str) -> list[str]:
    return [name] * records_df.height


ENDPOINTS = (double, gated, long, named)


@pytest.fixture(scope="module")
def served() -> Iterator[TestClient]:
    with TestClient(*ENDPOINTS, limits=Configure(body_max_bytes=BODY_MAX_BYTES, keep_alive_s=3)) as client:
        client.post("/double", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.close()
    yield
    gate.open()


def test_one_connection_answers_many_requests(raw: Raw, way: str) -> None:
    """Each response has its own id, the date, and the length of its body."""
    ids = set()
    for i in range(20):
        raw.send(post(f"/double{way}", [{"a": i}]))
        answer = raw.answer()
        assert (answer.status, answer.json()["predictions"]) == (200, [2.0 * i])
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["id"] == answer.headers["x-request-id"]
        assert abs(email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()) < 60
        assert set(answer.headers) == {"content-type", "x-request-id", "date", "content-length"}
        ids.add(answer.headers["x-request-id"])
    assert len(ids) == 20


def test_both_paths_give_the_same_responses(raw: Raw) -> None:
    """They do so for every error; only ids and dates differ."""
    bodies = [b"nope", b"", b"[]", b'{"a":1}', b'[{"a":"x"}]', b'[{"b":1}]', b'["{\\"a\\": 3}"]', b"\xff", b'[{"a":1e999}]', b"[" * 5000]
    types = ["Accept: text/csv", "Accept: application/x-ndjson", "Content-Type: text/csv", "Content-Type: image/png", "X-Other: 1"]
    for path in ("/double", "/double/", "/named/a%20b", "/named/%2e%2e", "/named/a%2Fb", "/named/", "/nowhere", "//double", "/%64ouble"):
        for body in bodies:
            for header in types:
                answers = []
                for way in ("", "?"):
                    raw.send(post(path + way, body, header))
                    answers.append(raw.answer())
                fast, slow = (
                    (answer.status, set(answer.headers.items()) - {("date", answer.headers["date"])}, answer.body) for answer in answers
                )
                ids = [answer.headers["x-request-id"] for answer in answers]
                other = {(name, value.replace(ids[1], ids[0])) for name, value in slow[1]}
                assert fast == (slow[0], other, slow[2].replace(ids[1].encode(), ids[0].encode())), (path, body, header)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
def test_a_request_may_arrive_in_pieces(raw: Raw, way: str, size: int) -> None:
    """The pieces may be of any size, and one packet may hold the end of one request and the beginning of the next."""
    raw.send(post(f"/double{way}", [{"a": 1}, {"a": 2}]) + chunked(f"/double{way}", [{"a": 3}]) + post(f"/double{way}", [{"a": 4}]), size)
    assert [raw.answer().json()["predictions"] for _ in range(3)] == [[2.0, 4.0], [6.0], [8.0]]


def test_a_request_may_be_split_anywhere(raw: Raw, way: str) -> None:
    """It is split at each of its bytes, after the server has read the first part."""
    request = post(f"/double{way}", [{"a": 1}])
    for at in range(1, len(request)):
        raw.send(request[:at])
        raw.send(request[at:])
        assert raw.answer().json()["predictions"] == [2.0]


def test_pipelined_responses_are_in_the_order_of_their_requests(raw: Raw, way: str) -> None:
    """There are many more than may be in flight, and they are ready in any order."""
    raw.send(b"".join(post(f"/double{way}", [{"a": i}] * (i % 3) if i % 7 else b"nope") for i in range(1000)))
    for i in range(1000):
        answer = raw.answer()
        if i % 7:
            assert answer.json()["predictions"] == [2.0 * i] * (i % 3)
        else:
            assert answer.json()["code"] == "malformed"


@pytest.mark.parametrize("seed", range(8))
def test_connections_that_mix_everything_get_the_right_responses(served: TestClient, seed: int) -> None:
    """Requests of both paths, all methods, valid and invalid, are pipelined in packets of any size; responses never mix or change order."""

    def talk(number: int) -> None:
        chance = random.Random(seed * 100 + number)
        requests = [chance.choice(KINDS)(number * 1000 + i) for i in range(60)]
        data = b"".join(request for request, _, _ in requests)
        with Raw(served.address) as raw, ThreadPoolExecutor(1) as sender:
            sending = sender.submit(raw.send, data, chance.choice([None, 10, 100, 1000, 5000]))
            for request, status, predictions in requests:
                answer = raw.answer(head=request.startswith(b"HEAD"))
                assert answer.status == status
                if predictions is not None:
                    assert answer.json()["predictions"] == predictions
            sending.result()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(talk, range(4)))


KINDS = [
    *[lambda i: (post("/double", [{"a": i}]), 200, [2.0 * i])] * 4,
    lambda i: (post("/double?", [{"a": i}]), 200, [2.0 * i]),
    lambda i: (chunked("/double", [{"a": i}]), 200, [2.0 * i]),
    lambda i: (post(f"/named/{i}", [{"a": i}] * 2), 200, [str(i)] * 2),
    lambda i: (post("/double", []), 200, []),
    lambda i: (post("/double", [{"a": i}] * 3000), 200, [2.0 * i] * 3000),
    lambda i: (post("/double", b"nope"), 400, None),
    lambda i: (post("/double", [{"b": i}]), 422, None),
    lambda i: (post("/nowhere", [{"a": i}]), 404, None),
    lambda i: (get("/double"), 405, None),
    lambda i: (get("/livez"), 200, None),
    lambda i: (get("/livez", "HEAD"), 200, None),
    lambda i: (get("/double", "HEAD"), 405, None),
]


def test_unsupported_methods_get_a_405_with_allow(raw: Raw, way: str) -> None:
    """The connection continues."""
    for method in ("GET", "PUT", "DELETE", "OPTIONS"):
        raw.send(get(f"/double{way}", method))
        answer = raw.answer()
        assert (answer.status, answer.headers["allow"]) == (405, "POST")


def test_expect_continue_is_answered(raw: Raw) -> None:
    """The client sends its body only then."""
    request = post("/double", [{"a": 1}], "Expect: 100-continue")
    head, _, body = request.partition(b"\r\n\r\n")
    raw.send(head + b"\r\n\r\n")
    assert raw.answer().status == 100
    raw.send(body)
    assert raw.answer().json()["predictions"] == [2.0]


def test_expect_continue_is_answered_in_order(raw: Raw) -> None:
    """No 100 is sent before the response to an earlier request."""
    head, _, body = post("/double", [{"a": 1}], "Expect: 100-continue").partition(b"\r\n\r\n")
    raw.send(post("/gated", [{"a": 7}]) + head + b"\r\n\r\n")
    gate.wait_entered()
    gate.open()
    assert raw.answer().json()["predictions"] == [7.0]
    assert raw.answer().status == 100
    raw.send(body)
    assert raw.answer().json()["predictions"] == [2.0]


def test_a_body_over_the_limit_is_refused(raw: Raw) -> None:
    """Its length is announced or not, and the connection continues."""
    rows = [{"a": 1}] * (BODY_MAX_BYTES // 8)
    for request in (post("/double", rows), chunked("/double", rows, size=100_000)):
        raw.send(request)
        answer = raw.answer()
        assert (answer.status, answer.json()["code"]) == (413, "too_large")
        assert str(BODY_MAX_BYTES) in answer.json()["detail"]
    raw.send(post("/double", [{"a": 1}]))
    assert raw.answer().json()["predictions"] == [2.0]


def test_a_body_may_be_large(way: str) -> None:
    """It is much larger than one read."""
    with TestClient(*ENDPOINTS) as client, Raw(client.address) as raw:
        for rows in (1, 5_000, 50_000, 200_000):
            raw.send(post(f"/double{way}", [{"a": 1}] * rows))
            assert raw.answer().json()["predictions"] == [2.0] * rows


@pytest.mark.parametrize(("version", "headers"), [("1.1", ["Connection: close"]), ("1.0", []), ("1.0", ["Connection: keep-alive"])])
def test_a_request_with_connection_close_is_the_last(raw: Raw, way: str, version: str, headers: list[str]) -> None:
    """The response says so, then the connection ends, and what follows is ignored."""
    raw.send(post(f"/double{way}", [{"a": 1}]) + post(f"/double{way}", [{"a": 2}], *headers, version=version) + b"garbage")
    assert "connection" not in raw.answer().headers
    answer = raw.answer()
    assert (answer.json()["predictions"], answer.headers["connection"]) == ([4.0], "close")
    assert raw.ended()


def test_invalid_http_is_refused_after_the_responses_to_earlier_requests(raw: Raw, way: str) -> None:
    """These are not lost, and not mixed with the refusal, which is the last response."""
    raw.send(post(f"/gated{way}", [{"a": 1}]))
    gate.wait_entered()
    raw.send(b"this is no request\r\n\r\n")
    raw.send(post(f"/double{way}", [{"a": 1}]))
    gate.open()
    assert raw.answer().json()["predictions"] == [1.0]
    assert (raw.answer().json()["code"]) == "malformed"
    assert raw.ended()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01",
        b"GET\r\n\r\n",
        b"POST /double HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_invalid_http_is_a_400(raw: Raw, garbage: bytes) -> None:
    """It gets a problem document, and the connection ends."""
    raw.send(garbage)
    answer = raw.answer()
    assert (answer.status, answer.headers["connection"], answer.json()["code"]) == (400, "close", "malformed")
    assert raw.ended()


def test_a_broken_chunk_is_a_400(raw: Raw) -> None:
    """Its request was never complete, so it is not computed."""
    raw.send(b'POST /gated HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[{"a\r\nnot a size\r\n')
    assert raw.answer().json()["code"] == "malformed"
    assert raw.ended()
    assert gate.seen == []


def test_two_lengths_are_refused(raw: Raw) -> None:
    """Otherwise a request could be smuggled past a proxy that believes the other length."""
    for headers in (["Content-Length: 5"], ["Transfer-Encoding: chunked"]):
        with Raw(f"http://{':'.join(map(str, raw.socket.getpeername()))}") as other:
            other.send(post("/double", [{"a": 1}], *headers) + post("/double", [{"a": 2}]))
            answer = other.answer()
            assert (answer.status, answer.json()["code"], answer.headers["connection"]) == (400, "malformed", "close")
            assert other.answers() == []  # nothing behind it is taken for a request
    raw.send(post("/double", [{"a": 1}]))
    assert raw.answer().json()["predictions"] == [2.0]


def test_an_upgrade_offer_is_ignored(raw: Raw, way: str) -> None:
    """The request itself and those behind it are answered."""
    offer = post(f"/double{way}", [{"a": 1}], "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    raw.send(offer)
    assert raw.answer().json()["predictions"] == [2.0]
    raw.send(post(f"/double{way}", [{"a": 2}]))
    assert raw.answer().json()["predictions"] == [4.0]


def test_a_half_closed_client_still_gets_its_responses(raw: Raw, way: str) -> None:
    """Several requests are in flight; then the connection ends."""
    raw.send(b"".join(post(f"/double{way}", [{"a": i}]) for i in range(100)))
    raw.socket.shutdown(socket.SHUT_WR)
    assert [raw.answer().json()["predictions"] for _ in range(100)] == [[2.0 * i] for i in range(100)]
    assert raw.ended()


@pytest.mark.parametrize("abort", [False, True], ids=["closed", "reset"])
def test_a_queued_request_of_a_gone_client_is_not_computed(served: TestClient, way: str, abort: bool) -> None:
    """It never reaches a handler; requests of others do."""
    with Raw(served.address) as first, Raw(served.address) as second, Raw(served.address) as last:
        for each in (first, second):  # so many are in flight; the others wait in the front door
            each.send(post(f"/gated{way}", [{"a": 1}]))
            assert until_read(served)
        with Raw(served.address) as gone:
            port = gone.socket.getsockname()[1]
            gone.send(post(f"/gated{way}", [{"a": 2}]))
            assert until_read(served)
            if abort:
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        last.send(post(f"/gated{way}", [{"a": 3}]))
        # A client that closes could be one that merely has nothing more to say, which has a second.
        until(lambda: port not in peers(own_front_door()), "it is still connected")
        assert until_read(served)
        gate.open()
        assert last.answer().json()["predictions"] == [3.0]
    assert gate.seen == [1.0, 1.0, 3.0]


def until_read(served: TestClient) -> bool:
    """Returns True once the front door has read everything sent before: a request without rows needs no worker, and is read in order."""
    return all(served.post(path, json=[]).status == 200 for path in ("/double", "/double?"))


def test_a_client_that_does_not_read_is_not_read(way: str) -> None:
    """The front door stops reading requests long before responses fill the memory. Once they are read, all arrive in order."""
    requests = [post(f"/long{way}", [{"a": 1, "b": "x" * 20_000}]) for i in range(2000)]
    with TestClient(*ENDPOINTS) as client, Raw(client.address) as raw:
        raw.socket.settimeout(1.0)
        sent = 0
        try:
            for request in requests:
                raw.socket.sendall(request)
                sent += 1
        except TimeoutError:
            pass  # as it should
        assert sent < len(requests)
        raw.socket.settimeout(DEADLINE_S)
        assert client.post("/double", json=[{"a": 1}]).status == 200  # nobody else is held up
        for _ in range(sent):
            assert raw.answer().json()["predictions"] == ["x" * 100_000]


def test_an_idle_connection_ends(served: TestClient) -> None:
    """It ends after some seconds, whichever path its last request took.

    One with an incomplete request has as long as a response may take.
    """
    with Raw(served.address) as other:
        other.send(post("/double", [{"a": 1}]))
        assert other.answer().status == 200  # so that this head is known already
    with Raw(served.address) as fast, Raw(served.address) as slow, Raw(served.address) as coming:
        fast.send(post("/double", [{"a": 1}]))
        slow.send(post("/double?", [{"a": 1}]))
        request = post("/double", [{"a": 2}])
        coming.send(request + request[:-1])
        assert [each.answer().status for each in (fast, slow, coming)] == [200] * 3
        assert fast.ended()
        assert slow.ended()
        coming.send(request[-1:])
        assert coming.answer().json()["predictions"] == [4.0]


def test_accepted_requests_are_answered_before_the_end(way: str) -> None:
    """A drain waits for requests of workers, queued ones, and incomplete bodies; idle connections end at once."""
    with TestClient(*ENDPOINTS) as client, ThreadPoolExecutor(1) as pool:  # noqa: SIM117
        with Raw(client.address) as busy, Raw(client.address) as late, Raw(client.address) as idle:
            idle.send(post("/double", [{"a": 1}]))
            assert idle.answer().status == 200
            busy.send(post(f"/gated{way}", [{"a": 1}]) * 4)
            gate.wait_entered()
            head, _, body = post(f"/gated{way}", [{"a": 5}]).partition(b"\r\n\r\n")
            late.send(head + b"\r\n\r\n" + body[:3])
            assert until_read(client)
            ending = pool.submit(client.__exit__, None, None, None)
            assert idle.ended()
            late.send(body[3:])
            gate.open()
            answers = [busy.answer() for _ in range(4)]
            assert [answer.json()["predictions"] for answer in answers] == [[1.0]] * 4
            assert answers[-1].headers["connection"] == "close"
            assert busy.ended()
            answer = late.answer()
            assert (answer.json()["predictions"], answer.headers["connection"]) == ([5.0], "close")
            assert late.ended()
            ending.result(DEADLINE_S)
