"""Integers of 128 bits and floats of 16 bits over HTTP, through a front door and a worker and back."""

from __future__ import annotations

import io
from collections.abc import Iterator

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

import base.service as svc
from base.schema import Schema
from base.testing import TestClient

LEAST, UMOST = -(2**127), 2**128 - 1
JSON, NDJSON, CSV = "application/json", "application/x-ndjson", "text/csv"
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
seen: list[pl.Schema] = []


class Wide(Schema):
    i: pl.Int128 = Field(ge=-(2**127), examples=[LEAST])
    u: pl.UInt128 | None = Field(default=UMOST, le=2**128 - 1)
    h: pl.Float16 = Field(gt=0, examples=[0.1])


@svc.endpoint("/declared")
def declared(records_df: Wide.DataFrame) -> Wide.DataFrame:
    seen.append(records_df.schema)
    return records_df.with_columns(pl.col("i") + 1)


@svc.endpoint("/plain")
def plain(records_df: Wide.DataFrame) -> pl.DataFrame:
    return records_df


@svc.endpoint("/scalars")
def scalars(records_df: Wide.DataFrame) -> list[int]:
    return records_df["i"].to_list()


@svc.endpoint("/sums")
def sums(records_df: Wide.DataFrame) -> pl.Series:
    return records_df["h"] * 2


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(declared, plain, scalars, sums) as client:
        client.post("/declared", json={"i": 1, "h": 1})  # the segment that all tests share comes with the first batch
        yield client


def arrow(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


TABLE = pa.table({"i": [str(LEAST), "5"], "u": [str(UMOST), None], "h": pa.array([0.5, 2048], pa.float16())})
BODIES = {
    JSON: f'[{{"i":{LEAST},"h":0.5}},{{"i":"5","u":null,"h":2048}}]'.encode(),
    NDJSON: f'{{"i":"{LEAST}","u":{UMOST},"h":0.5}}\n{{"i":5,"u":null,"h":2048.0}}\n'.encode(),
    CSV: f"i,u,h\n{LEAST},{UMOST},0.5\n5,,2048\n".encode(),
    ARROW: arrow(TABLE),
    PARQUET: parquet(TABLE),
}
ROWS = [{"i": str(LEAST), "u": str(UMOST), "h": 0.5}, {"i": "5", "u": None, "h": 2048.0}]


@pytest.mark.parametrize("media", BODIES)
def test_rows_are_exact_in_each_media_type(client: TestClient, media: str) -> None:
    """The handler gets the dtypes that it declared, and every digit."""
    answer = client.post("/declared", content=BODIES[media], headers={"content-type": media})
    assert answer.json()["predictions"] == [{**ROWS[0], "i": str(LEAST + 1)}, {**ROWS[1], "i": "6"}]
    assert seen[-1] == Wide.polars_schema()


@pytest.mark.parametrize("media", BODIES)
def test_responses_have_every_digit_in_each_media_type(client: TestClient, media: str) -> None:
    """A response can be sent again as a request."""
    headers = {"content-type": JSON, "accept": media}
    answer = client.post("/plain", content=BODIES[JSON], headers=headers)
    body = answer.content if media != JSON else pl.DataFrame(answer.json()["predictions"]).write_json().encode()
    again = client.post("/plain", content=body, headers={"content-type": media})
    assert again.json()["predictions"] == ROWS
    if media == ARROW:
        assert pa.ipc.open_stream(answer.content).read_all().schema.types == [pa.string(), pa.string(), pa.float16()]
    if media == PARQUET:
        assert pq.read_table(io.BytesIO(answer.content)).schema.types == [pa.large_string(), pa.large_string(), pa.float16()]


def test_scalars_have_every_digit(client: TestClient) -> None:
    """They are Python integers in a list, and half floats in a series, without an output schema."""
    assert client.post("/scalars", content=BODIES[JSON]).json()["predictions"] == [str(LEAST), "5"]
    assert client.post("/sums", content=BODIES[JSON]).json()["predictions"] == [1.0, 4096.0]


def test_a_misfit_is_a_422_that_names_it(client: TestClient) -> None:
    """The front door checks dtypes, and the worker constraints."""
    answer = client.post("/declared", content=f'[{{"i":1,"h":1}},{{"i":{2**127},"h":65520}}]'.encode())
    assert answer.status == 422
    assert answer.json()["errors"] == [
        {"row": 1, "column": "i", "reason": f"expected an integer from {LEAST} to {2**127 - 1}, got {2**127}"},
        {"row": 1, "column": "h", "reason": "expected a number that a 16-bit float holds, got 65520"},
    ]
    answer = client.post("/declared", content=b'{"i":1,"h":-1}')
    assert (answer.status, answer.json()["errors"]) == (422, [{"row": 0, "column": "h", "reason": "expected a value above 0, got -1.0"}])


def test_the_document_describes_requests_and_responses(client: TestClient) -> None:
    """Requests may have integers or digits, responses have digits; bounds and examples have every digit."""
    found = client.get("/openapi.json").json()
    schemas = str(found["components"]["schemas"])
    assert "{'type': ['integer', 'string'], 'format': 'int128'" in schemas
    assert f"'minimum': {LEAST}" in schemas
    assert f"'maximum': {UMOST}" in schemas
    assert "{'type': 'string', 'format': 'int128'}" in str(found)
    assert f"'i': {LEAST}" in str(found["paths"]["/declared"])
