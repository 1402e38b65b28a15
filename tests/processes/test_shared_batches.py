"""Requests that share a worker, and often a batch: an error reaches only its own request, and nobody waits for another's model."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from pydantic import Field, field_validator

import base.artifacts as afs
import base.service as svc
from base.schema import Schema, column_validator
from base.testing import TestClient
from gate import Gate
from rawhttp import Answer, Raw, await_read, post, read_before

gate = Gate()
loading, loaded = threading.Event(), threading.Event()


class Bounded(Schema):
    a: pl.Float64 = Field(ge=0)
    b: pl.Int64 = Field(default=0)

    @column_validator("b", expected="an even number")
    def is_even(cls, column: pl.Series) -> pl.Series:  # noqa: N805 - as authors write it
        return column % 2 == 0


class RowByRow(Bounded):
    @field_validator("b")
    @classmethod
    def is_no_hundred(cls, b: int) -> int:
        if b == 100:
            raise ValueError("a hundred is too many")
        return b


def gathered(records_df: pl.DataFrame) -> pl.Series:
    """A handler that blocks on rows with 99, so that other requests queue behind them."""
    return (gate.passed if (records_df["a"] == 99).any() else gate.note)(records_df["a"])


@svc.endpoint("/bounded", batch_max_size=1000)
def bounded(records_df: Bounded.DataFrame) -> pl.Series:
    return gathered(records_df)


@svc.endpoint("/row-by-row", batch_max_size=1000)
def row_by_row(records_df: RowByRow.DataFrame) -> pl.Series:
    return gathered(records_df)


def load(parameters: dict[str, str]) -> str:
    if parameters["name"] == "slow":
        loading.set()
        assert loaded.wait(20)
    return parameters["name"]


@svc.endpoint("/named/{name}", cache_config=afs.CacheConfig(load_model=load))
def named(model: str, records_df: pl.DataFrame) -> list[str]:
    return [model] * records_df.height


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(bounded, row_by_row, named) as client:
        client.post("/bounded", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


def together(client: TestClient, path: str, requests: list[list[dict[str, float]]]) -> list[Answer]:
    """Returns the responses to requests that queued while all slots in flight were taken."""
    gate.close()
    with Raw(client.address) as first, Raw(client.address) as second:
        for each in (first, second):
            each.send(post(path, [{"a": 99}]))
            if each is first:
                gate.wait_entered()
        await_read(client.address, path)  # so that the second travels alone
        with read_before(client.address, [post(path, rows) for rows in requests], path) as raws:
            gate.open()
            found = [raw.answer() for raw in raws]
        assert [each.answer().status for each in (first, second)] == [200, 200]
    return found


@pytest.mark.parametrize(
    ("path", "wrong", "column", "reason"),
    [
        ("/bounded", {"a": -1}, "a", "expected a value of at least 0, got -1.0"),
        ("/bounded", {"a": 1, "b": 3}, "b", "expected an even number, got 3"),
        ("/row-by-row", {"a": 1, "b": 100}, "b", "Value error, a hundred is too many, got 100"),
    ],
)
def test_a_row_that_breaks_a_constraint_fails_only_its_own_request(
    client: TestClient, path: str, wrong: dict[str, float], column: str, reason: str
) -> None:
    """The error has the row's number within its request; the rest of the batch is answered, and no handler sees the row."""
    requests: list[list[dict[str, float]]] = [[{"a": i}, wrong if i in {3, 7} else {"a": i}, {"a": i}] for i in range(1, 13)]
    for i, answer in enumerate(together(client, path, requests), 1):
        if i in {3, 7}:
            assert (answer.status, answer.json()["code"]) == (422, "misfit")
            assert answer.json()["errors"] == [{"row": 1, "column": column, "reason": reason}]
        else:
            assert answer.json()["predictions"] == [float(i)] * 3
    assert sum(gate.heights) == 2 + 3 * 10
    assert max(gate.heights) > 3, "no two requests shared a batch, so nothing was proved"


def test_every_invalid_request_of_a_batch_gets_all_its_errors(client: TestClient) -> None:
    """This holds even if no request is valid."""
    requests = [[{"a": -i, "b": 1} for _ in range(i)] for i in range(1, 5)]
    for i, answer in enumerate(together(client, "/bounded", requests), 1):
        assert {(each["row"], each["column"]) for each in answer.json()["errors"]} == {(row, name) for row in range(i) for name in "ab"}


def test_a_load_delays_no_other_model(client: TestClient) -> None:
    """While one model loads, more requests wait for it than can be in flight; others are loaded and answered before it is."""
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(client.post, "/named/slow", [{"a": i}]) for i in range(8)]
        assert loading.wait(20)
        for name in ("one", "two", "one"):
            assert client.post(f"/named/{name}", json=[{"a": 1}]).json()["predictions"] == [name]
        assert not any(each.done() for each in waiting)
        loaded.set()
        assert [each.result().json()["predictions"] for each in waiting] == [["slow"]] * 8
