"""Requests that wait: deadlines, limits and urgency, on real front doors with a worker in this process."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import polars as pl
import pytest

import base.service as svc
from base.errors import DeadlineExceeded
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient
from gate import Gate
from rawhttp import Answer, Raw, await_read, post

gate = Gate()
BATCH_S = 0.2


class Numbers(Schema):
    a: pl.Float64


@svc.endpoint("/gated", batch_max_size=4, warm_up=False)
def gated(records_df: Numbers.DataFrame) -> pl.Series:
    return gate.passed(records_df["a"])


@svc.endpoint("/one", batch_max_size=1, warm_up=False)
def one(records_df: Numbers.DataFrame) -> pl.Series:
    return gate.passed(records_df["a"])


@svc.endpoint("/hasty", timeout_ms=50, warm_up=False)
def hasty(records_df: Numbers.DataFrame) -> pl.Series:
    return gate.passed(records_df["a"])


@svc.endpoint("/slow", batch_max_size=1, warm_up=False)
def slow(records_df: Numbers.DataFrame) -> pl.Series:
    time.sleep(BATCH_S)
    return gate.note(records_df["a"])


@svc.endpoint("/late", warm_up=False)
def late(records_df: Numbers.DataFrame) -> pl.Series:
    gate.note(records_df["a"])
    raise DeadlineExceeded("the handler's own clock")


@pytest.fixture(scope="module", params=[Configure(request_timeout_s=20.0)])
def served(request: pytest.FixtureRequest) -> Iterator[TestClient]:
    with TestClient(gated, one, hasty, slow, late, limits=request.param) as client:
        gate.open()
        client.post("/one", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


def limits(**given: object) -> pytest.MarkDecorator:
    """Returns the configuration of a test's front door."""
    return pytest.mark.parametrize("served", [Configure(request_timeout_s=20.0, **given)], indirect=True)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.close()
    yield
    gate.open()


def blocked(address: str, path: str, values: Sequence[float]) -> Raw:
    """Returns a connection whose requests the worker has; it blocks in the first. The test closes it."""
    raw = Raw(address)
    for value in values:
        raw.send(post(path, [{"a": value}]))
        if value == values[0]:
            gate.wait_entered()
    await_read(address, "/one")
    return raw


def answers(raw: Raw, count: int) -> list[Answer]:
    return [raw.answer() for _ in range(count)]


def test_rows_that_expire_in_a_workers_socket_are_never_computed(served: TestClient, raw: Raw) -> None:
    """One of two requests in a batch expires there; the other is computed without it."""
    with blocked(served.address, "/gated", [0]) as first:
        raw.send(post("/gated", [{"a": 1}], "X-Request-Timeout-Ms: 100") + post("/gated", [{"a": 2}]))
        expired = raw.answer()
        assert (expired.status, expired.json()["code"]) == (504, "deadline_exceeded")
        assert "0.1 s" in expired.json()["detail"]
        assert gate.seen == [0]
        gate.open()
        assert raw.answer().json()["predictions"] == [2]
        assert first.answer().status == 200
    assert gate.seen == [0, 2]


def test_rows_that_expire_in_the_queue_are_never_sent(served: TestClient, raw: Raw) -> None:
    """The worker has two batches, so this one waits in the front door."""
    with blocked(served.address, "/one", [0, 1]) as first:
        raw.send(post("/one", [{"a": 2}], "X-Request-Timeout-Ms: 50"))
        assert raw.answer().status == 504
        gate.open()
        assert [each.status for each in answers(first, 2)] == [200, 200]
    assert gate.seen == [0, 1]


def test_an_endpoint_and_a_client_can_each_set_a_timeout(raw: Raw, way: str) -> None:
    """The author's applies if the client sets none; the operator's limit always applies."""
    raw.send(post(f"/hasty{way}", [{"a": 1}]))
    assert "0.05 s" in raw.answer().json()["detail"]
    raw.send(post(f"/hasty{way}", [{"a": 1}], "x-request-timeout-ms: 80"))
    assert "0.08 s" in raw.answer().json()["detail"]


def test_no_client_can_exceed_the_operators_timeout() -> None:
    """A longer timeout is reduced to the limit."""
    with TestClient(one, limits=Configure(request_timeout_s=0.1)) as client:
        answer = client.post("/one", json=[{"a": 1}], headers={"X-Request-Timeout-Ms": "86400000"})
        assert (answer.status, "0.1 s" in answer.text) == (504, True)
        gate.open()


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "1" * 13])
def test_an_invalid_timeout_is_a_bad_request(raw: Raw, way: str, value: str) -> None:
    """It is never computed, and the response names the header."""
    raw.send(post(f"/gated{way}", [{"a": 1}], f"X-Request-Timeout-Ms: {value}"))
    answer = raw.answer()
    assert (answer.status, answer.json()["code"]) == (400, "malformed")
    assert "X-Request-Timeout-Ms" in answer.json()["detail"]
    assert not gate.seen


def test_a_deadline_error_of_a_handler_is_its_response(raw: Raw) -> None:
    """It is not mistaken for the front door's own, which would be retried."""
    raw.send(post("/late", [{"a": 7}]))
    assert raw.answer().status == 504
    assert gate.seen == [7]


@limits(queue_max_wait_s=2.5 * BATCH_S)
def test_a_request_that_would_wait_too_long_is_refused_at_once(served: TestClient, raw: Raw) -> None:
    """Of twenty simultaneous requests the first few are answered in order; the others are told to retry."""
    with Raw(served.address) as before:
        for i in range(3):  # how long a batch takes is known by these
            before.send(post("/slow", [{"a": i}]))
            assert before.answer().status == 200
    raw.send(b"".join(post("/slow", [{"a": i}]) for i in range(100, 120)))
    found = answers(raw, 20)
    accepted = [answer.json()["predictions"][0] for answer in found if answer.status == 200]
    refused = [answer for answer in found if answer.status != 200]
    assert 1 <= len(accepted) <= 6
    assert accepted == [float(i) for i in range(100, 100 + len(accepted))]
    assert {(answer.status, answer.json()["code"], answer.headers["retry-after"]) for answer in refused} == {(503, "full", "1")}
    assert gate.seen == [0, 1, 2, *accepted]


@limits(queue_max_bytes=200)
def test_the_bytes_of_a_queue_are_limited(served: TestClient, raw: Raw) -> None:
    """The queue takes the first body of any size, and then no more than its limit."""
    with blocked(served.address, "/one", [0, 1]) as first:
        raw.send(post("/one", [{"a": 2}]) + post("/one", b" " * 200 + b'[{"a": 3}]') + post("/one", [{"a": 4}]))
        gate.open()
        assert [answer.status for answer in answers(raw, 3)] == [200, 503, 200]
        assert [each.status for each in answers(first, 2)] == [200, 200]
    assert sorted(gate.seen) == [0, 1, 2, 4]


@pytest.mark.parametrize(
    ("served", "order"),
    [
        (Configure(request_timeout_s=20.0, priorities=True), [0, 1, 4, 3, 2]),
        (Configure(request_timeout_s=20.0), [0, 1, 2, 3, 4]),
    ],
    indirect=["served"],
)
def test_urgent_requests_go_first_if_the_operator_allows_it(served: TestClient, raw: Raw, order: list[float]) -> None:
    """Otherwise the header has no effect."""
    with blocked(served.address, "/one", [0, 1]) as first:
        raw.send(post("/one", [{"a": 2}], "Priority: u=6") + post("/one", [{"a": 3}]) + post("/one", [{"a": 4}], "Priority: u=0, i"))
        await_read(served.address, "/one")
        gate.open()
        assert [answer.json()["predictions"] for answer in answers(raw, 3)] == [[2], [3], [4]]
        assert [each.status for each in answers(first, 2)] == [200, 200]
    assert gate.seen == order
