"""Parameter specs over real HTTP: they are checked before rows are decoded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest
from pydantic import BaseModel, field_validator

import base.artifacts as afs
import base.service as svc
from base.schema import Schema
from base.testing import TestClient

loads: list[int] = []
entered, go_on = threading.Event(), threading.Event()


class Number(BaseModel):
    n: int

    @field_validator("n")
    @classmethod
    def is_small(cls, n: int) -> int:
        if n == 13:
            raise RuntimeError("the author did not think of this one")
        if n > 100:
            raise ValueError("at most 100")
        return n


class Row(Schema):
    a: pl.Float64


def load(number: Number) -> int:
    loads.append(number.n)
    return number.n


@svc.endpoint("/cached/{n}", cache_config=afs.CacheConfig(load_model=load, spec=Number))
def cached(model: int, records_df: Row.DataFrame) -> pl.Series:
    return records_df["a"] * model


@svc.endpoint("/asked/{n}")
def asked(records_df: Row.DataFrame, number: Number) -> pl.Series:
    return records_df["a"] * number.n


@svc.endpoint("/raw/{n}", raw=True)
def raw(request: svc.Request, number: Number) -> bytes:
    return request.body * number.n


@svc.endpoint("/waits")
def waits(records_df: Row.DataFrame) -> pl.Series:
    entered.set()
    assert go_on.wait(20)
    return records_df["a"]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(cached, asked, raw, waits) as client:
        client.post("/cached/1", json=[{"a": 1}])  # the segment that all tests share comes with the first batch
        yield client


@pytest.mark.parametrize("path", ["/cached/{}", "/asked/{}", "/raw/{}"])
@pytest.mark.parametrize("body", [b"this is no JSON", b'[{"a": "x"}]', b'[{"a": 1}]'])
def test_parameters_that_a_spec_refuses_are_a_422_whatever_the_body(client: TestClient, path: str, body: bytes) -> None:
    """The response is about the parameters first, and no model is looked up."""
    before = len(loads)
    for wrong in ("many", "101"):
        answer = client.post(path.format(wrong), content=body)
        assert answer.status == 422
        assert [each["column"] for each in answer.json()["errors"]] == ["n"]
    assert len(loads) == before


def test_after_admitted_parameters_the_body_is_checked(client: TestClient) -> None:
    """So it is when they were admitted before; equal values share a model."""
    for _ in range(2):
        assert client.post("/cached/7", content=b"no JSON").status == 400
        assert client.post("/cached/7", json=[{"a": "x"}]).json()["errors"][0]["column"] == "a"
    for path in ("/cached/7", "/cached/07", "/asked/7"):
        assert client.post(path, json=[{"a": 2}]).json()["predictions"] == [14.0]
    assert client.post("/raw/2", content=b"ab").content == b"abab"
    assert loads.count(7) == 1


def test_a_spec_that_raises_ends_only_its_request(client: TestClient) -> None:
    """It is the author's error, and a 500."""
    for path in ("/cached/13", "/asked/13"):
        assert client.post(path, json=[{"a": 1}]).status == 500
    assert client.post("/cached/3", json=[{"a": 1}]).json()["predictions"] == [3.0]


def test_more_parameter_checks_than_fit_into_a_socket_are_all_answered(client: TestClient) -> None:
    """While the worker computes, checks wait in its socket, and the others in the front door."""
    with ThreadPoolExecutor(101) as pool:
        first = pool.submit(client.post, "/waits", json=[{"a": 5}])
        assert entered.wait(20)
        others = [pool.submit(client.post, f"/cached/0{n}", json=[{"a": 1}]) for n in range(100) if n != 13]
        go_on.set()
        assert first.result().json()["predictions"] == [5.0]
        answers = [other.result() for other in others]
    assert [answer.json()["predictions"] for answer in answers] == [[float(n)] for n in range(100) if n != 13]
