"""Bodies of every media type over HTTP, on both paths through the front door."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import polars as pl
import pytest

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from reader_bodies import THREE_ROWS_WITHOUT_COLUMNS


class Nothing(Schema):
    """The input is all in the path."""


@svc.endpoint("/declared/{value}")
def declared(records_df: Nothing.DataFrame, value: int) -> pl.Series:
    return pl.Series([value] * records_df.height)


@svc.endpoint("/undeclared/{value}")
def undeclared(records_df: pl.DataFrame, value: int) -> pl.DataFrame:
    return records_df.with_columns(value=pl.lit(value))


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(declared, undeclared) as found:
        yield found


def test_rows_without_columns_get_a_prediction_each(client: TestClient) -> None:
    """A request with a query takes the path through ASGI."""
    for query, (media, body) in product(["", "?by=asgi"], THREE_ROWS_WITHOUT_COLUMNS.values()):
        headers = {"content-type": media}
        assert client.post(f"/declared/7{query}", content=body, headers=headers).json()["predictions"] == [7, 7, 7]
        assert client.post(f"/undeclared/7{query}", content=body, headers=headers).json()["predictions"] == [{"value": 7}] * 3


def test_rows_without_columns_share_batches(client: TestClient) -> None:
    """Each request gets as many rows as it sent."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda rows: client.post("/declared/7", json=[{}] * rows).json()["predictions"], range(1, 80)))
    assert [len(each) for each in answers] == list(range(1, 80))


def test_a_large_response_to_rows_without_columns_has_all_of_them(client: TestClient) -> None:
    """The request has hardly any bytes, so that the response needs a larger buffer."""
    answer = client.post("/undeclared/7", json=[{}] * 200_000, headers={"accept": "text/csv"})
    assert answer.text == "value\n" + "7\n" * 200_000
