"""Bodies of every media type over HTTP, on both paths through the front door."""

from __future__ import annotations

import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import base.service as svc
from base.schema import Schema
from base.testing import TestClient
from reader_bodies import ARROW, PARQUET, THREE_ROWS_WITHOUT_COLUMNS, own_schema, read_body


class Nothing(Schema):
    """The input is all in the path."""


@svc.endpoint("/declared/{value}")
def declared(records_df: Nothing.DataFrame, value: int) -> pl.Series:
    return pl.Series([value] * records_df.height)


@svc.endpoint("/undeclared/{value}")
def undeclared(records_df: pl.DataFrame, value: int) -> pl.DataFrame:
    return records_df.with_columns(value=pl.lit(value))


@svc.endpoint("/echo")
def echo(records_df: pl.DataFrame) -> pl.DataFrame:
    return records_df


@svc.endpoint("/through-pandas")
def through_pandas(records_df: pl.DataFrame) -> Any:
    return records_df.to_pandas()


@svc.endpoint("/through-arrow")
def through_arrow(records_df: pl.DataFrame) -> Any:
    return records_df.to_arrow()


@svc.endpoint("/nul")
def nul(records_df: pl.DataFrame) -> pl.DataFrame:
    """Returns a name that Polars cannot export: it would end the process."""
    name = records_df["name"][0].replace("NUL", "\0")
    return (
        pl.DataFrame({name: ["x"] * records_df.height}) if records_df["column"][0] else pl.DataFrame({"s": [{name: 1}] * records_df.height})
    )


@svc.endpoint("/extension")
def extension(records_df: pl.DataFrame) -> Any:
    return pa.table({"a": pa.array(["{}"] * records_df.height, pa.json_())})


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    endpoints = declared, undeclared, echo, through_pandas, through_arrow, nul, extension
    with TestClient(*endpoints) as found:
        for each in endpoints:  # so that no test is the first to take shared memory for one
            found.post(each.path.replace("{value}", "1"), json=[{"name": "a", "column": True}])
        yield found


def test_rows_without_columns_get_a_prediction_each(client: TestClient) -> None:
    """A request with a query takes the path through ASGI."""
    for query, (media, body) in product(["", "?by=asgi"], THREE_ROWS_WITHOUT_COLUMNS.values()):
        headers = {"content-type": media}
        assert client.post(f"/declared/7{query}", content=body, headers=headers).json()["predictions"] == [7, 7, 7]
        assert client.post(f"/echo{query}", content=body, headers=headers).json()["predictions"] == [{}, {}, {}]
        assert client.post(f"/undeclared/7{query}", content=body, headers=headers).json()["predictions"] == [{"value": 7}] * 3


def test_rows_without_columns_share_batches(client: TestClient) -> None:
    """Each request gets as many rows as it sent."""
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda rows: client.post("/declared/7", json=[{}] * rows).json()["predictions"], range(1, 80)))
    assert [len(each) for each in answers] == list(range(1, 80))


def test_a_large_response_to_rows_without_columns_has_all_of_them() -> None:
    """The request has hardly any bytes, so that the response needs a larger buffer."""
    with TestClient(undeclared) as client:
        answer = client.post("/undeclared/7", json=[{}] * 200_000, headers={"accept": "text/csv"})
    assert answer.text == "value\n" + "7\n" * 200_000


NAMES = [
    *(["", "column_0"], ["column_0", ""], ["a", ""], [""], ["a_duplicated_0", "a"], ["__index_level_0__", "index"]),
    *(["*", "ab"], ["^a.*$", "ab"], ["len", "literal"], [" ", "  "], ["\n", "a\r\nb"], ['"', "a,b"], ["\\", ";"], ["é", "e\u0301"]),
    *(["😀", "\u202ea"], ["True", "1"], ["x" * 70_000, "a"], ["prediction", "field_0"]),
]
"""Names that Polars, pandas or Arrow use themselves, read as patterns or take for absent, and names that need quotes."""


def test_any_name_is_served_as_it_is(client: TestClient) -> None:
    """In every media type, into the handler and out of it, whatever it returns."""
    for names, path in product(NAMES, ("/echo", "/through-pandas", "/through-arrow")):
        frame = pl.DataFrame({name: [i, i + 1] if i % 2 else [f"{i}", "é"] for i, name in enumerate(names)})
        for media, body in own_schema(frame).items():
            rows = frame.with_columns(pl.all().cast(pl.String)).to_dicts() if media == "text/csv" else frame.to_dicts()
            answer = client.post(path, content=body, headers={"content-type": media, "accept": media})
            # Inferred from CSV, the text "0" is a number.
            found = [
                {name: str(each) if media == "text/csv" else each for name, each in row.items()} for row in read_body(media, answer.content)
            ]
            assert (answer.status, found) == (200, rows), (names, path, media)


def test_a_name_that_appears_twice_or_ends_early_is_refused(client: TestClient) -> None:
    """With a 422 in every media type that can express it, never renamed."""
    once = {media: body for media, body in own_schema(pl.DataFrame({"ab": ["x"], "ba": ["y"]})).items() if media != "application/json"}
    for media, body in once.items():
        for name in (b"ab", b"b\\u0000" if media == "application/x-ndjson" else b"\0a"):
            if name == b"ab" and media == "application/x-ndjson":
                continue  # the last of equal fields counts, as in other readers of JSON
            changed = body.replace(b"ba", name)
            answer = client.post("/echo", content=changed, headers={"content-type": media})
            assert answer.status == 422, (media, name, answer)


def test_a_result_with_a_nul_in_a_name_is_a_bad_result(client: TestClient) -> None:
    """The worker is the process of this test, which goes on."""
    for column in (True, False):
        answer = client.post("/nul", json=[{"name": "aNULb", "column": column}])
        assert (answer.status, answer.json()["code"]) == (500, "bad_result")
    assert client.post("/nul", json=[{"name": "a", "column": True}]).json()["predictions"] == [{"a": "x"}]


def test_a_result_that_cannot_be_written_in_a_format_is_a_bad_result(client: TestClient) -> None:
    """Polars writes no extension types as CSV. Other requests of the batch, in other formats, get their rows."""

    def post(accept: str) -> int:
        return client.post("/extension", json=[{"x": 1}], headers={"accept": accept}).status

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(post, ["text/csv", "application/json"] * 8)) == [500, 200] * 8
    with TestClient(extension) as other:  # a large response, which is encoded on a thread
        answer = other.post("/extension", json=[{"x": 1}] * 100_000, headers={"accept": "text/csv"})
        assert (answer.status, answer.json()["code"]) == (500, "bad_result")


def test_a_result_without_columns_keeps_its_rows_in_every_format(client: TestClient) -> None:
    """A handler may return what it was given."""
    found = {
        media: client.post("/echo", json=[{}, {}, {}], headers={"accept": media}).content for media in own_schema(pl.DataFrame({"a": [1]}))
    }
    assert read_body("application/x-ndjson", found["application/x-ndjson"]) == [{}, {}, {}]
    assert found["text/csv"] == b"\n" * 4
    assert pa.ipc.open_stream(found[ARROW]).read_all().num_rows == pq.ParquetFile(io.BytesIO(found[PARQUET])).metadata.num_rows == 3
