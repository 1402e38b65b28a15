"""Endpoints with `batched=False`: one call a request, whose answer has any number of rows or is one record."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import base.service as svc
from base.errors import Declaration, Reject
from base.ipc.front_door_control import MirrorReport, MirrorSpec, SplitSpec
from base.schema import Schema
from base.testing import TestClient
from front_harness import Front, Workers
from gate import Gate
from rawhttp import Raw, chunked, post, read_before

gate = Gate()
ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
ROWS = [{"x": 1.0}, {"x": 2.5}]


class Row(Schema):
    x: pl.Float64


class Sums(Schema):
    name: pl.String
    total: pl.Float64
    table: pl.List(pl.Struct({"i": pl.Int64, "x": pl.Float64}))  # type: ignore[valid-type]


class Size(svc.Parameters):
    times: int = 2


@svc.endpoint("/repeated", batched=False)
def repeated(records_df: Row.DataFrame, size: Size) -> Row.DataFrame:
    (gate.passed if (records_df["x"] == 99).any() else gate.note)(records_df["x"])
    return pl.concat([records_df] * size.times) if size.times else records_df.clear()


@svc.endpoint("/numbers", batched=False)
async def numbers(records_df: Row.DataFrame, size: Size) -> np.ndarray[Any, Any]:
    return np.repeat(records_df["x"].to_numpy(), size.times)


@svc.endpoint("/sums", batched=False)
def sums(records_df: Row.DataFrame) -> Annotated[dict[str, object], Sums]:
    if (records_df["x"] == -13).any():
        raise Reject(detail="no thirteen", rows=[0])
    table = records_df.with_row_index("i").cast({"i": pl.Int64})
    return {"total": records_df["x"].sum(), "name": "all", "table": table}


@svc.endpoint("/tables", batched=False)
def tables(records_df: pl.DataFrame, context: svc.Context) -> dict[str, object]:
    return {"frame": records_df, "rows": [{"a": 1}, {"b": None}], "missing": None}


@svc.endpoint("/flat", batched=False)
def flat(records_df: pl.DataFrame) -> dict[str, object]:
    return {"height": records_df.height, "text": "a,b"}


@svc.endpoint("/parts", batched=False)
async def parts(records_df: Row.DataFrame) -> AsyncIterator[Sums.DataFrame]:
    for x in records_df["x"]:
        yield {"name": "one", "total": x, "table": records_df.with_row_index("i").cast({"i": pl.Int64})}  # type: ignore[misc]


@svc.endpoint("/wrong", batched=False)
def wrong(records_df: Row.DataFrame) -> Sums.DataFrame:
    return records_df


@svc.endpoint("/cyclic", batched=False)
def cyclic(records_df: Row.DataFrame) -> dict[str, object]:
    record: dict[str, object] = {"x": records_df.height}
    if not records_df.height:
        record["itself"] = [record]
    return record


@svc.endpoint("/strict")
def strict(records_df: Row.DataFrame) -> Any:
    return {"x": 1.0} if records_df["x"][0] else records_df.head(1)


@pytest.fixture(scope="module")
def served() -> Iterator[TestClient]:
    with TestClient(repeated, numbers, sums, tables, flat, parts, wrong, cyclic, strict) as client:
        client.post("/repeated", ROWS)  # the segment that all tests share comes with the first batch
        yield client


@pytest.mark.parametrize("send", [post, chunked], ids=["fast", "slow"])
@pytest.mark.parametrize("times", [0, 1, 3])
def test_an_answer_may_have_any_number_of_rows(served: TestClient, send: Any, times: int) -> None:
    with Raw(served.address) as raw:
        for rows in (ROWS, [], ROWS[:1]):
            raw.send(send(f"/repeated?times={times}", rows) + send(f"/numbers?times={times}", rows))
            assert raw.answer().json()["predictions"] == rows * times
            assert raw.answer().json()["predictions"] == [each["x"] for each in rows for _ in range(times)]


@settings(deadline=None)
@given(
    xs=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=5),
    times=st.integers(0, 3),
    media_type=st.sampled_from([ARROW, PARQUET]),
)
def test_a_reader_finds_the_rows_in_a_binary_format(served: TestClient, xs: list[float], times: int, media_type: str) -> None:
    answer = served.post("/repeated", [{"x": x} for x in xs], headers={"accept": media_type}, params={"times": times})
    table = pa.ipc.open_stream(answer.content).read_all() if media_type == ARROW else pq.read_table(io.BytesIO(answer.content))
    assert table.column("x").to_pylist() == xs * times


def test_requests_are_never_batched_or_divided(served: TestClient) -> None:
    """Requests that wait together, one without rows among them, get a call each."""
    gate.close()
    heights = [3, 0, 100, 1, 0]
    with read_before(served.address, [post("/repeated", [{"x": 99}])] * 2, "/flat") as blocking:
        gate.wait_entered()
        with read_before(served.address, [post("/repeated", [{"x": 1.0}] * each) for each in heights], "/flat") as raws:
            gate.open()
            assert [len(raw.answer().json()["predictions"]) for raw in raws] == [2 * each for each in heights]
        assert [raw.answer().status for raw in blocking] == [200, 200]
    assert sorted(gate.heights) == sorted([1, 1, *heights])


def test_a_record_is_an_object_in_json_and_one_row_elsewhere(served: TestClient) -> None:
    table = [{"i": 0, "x": 1.0}, {"i": 1, "x": 2.5}]
    expected = {"name": "all", "total": 3.5, "table": table}
    assert served.post("/sums", ROWS).json()["predictions"] == expected
    assert served.post("/sums", ROWS, headers={"accept": "application/x-ndjson"}).lines() == [expected]
    answer = served.post("/sums", ROWS, headers={"accept": ARROW})
    assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == [expected]
    answer = served.post("/sums", ROWS, headers={"accept": PARQUET})
    assert pq.read_table(io.BytesIO(answer.content)).to_pylist() == [expected]
    assert served.post("/sums", []).json()["predictions"] == {"name": "all", "total": 0.0, "table": []}


def test_tables_of_other_columns_are_fields_of_one_record(served: TestClient) -> None:
    found = served.post("/tables", [{"y": "a"}, {"y": "b"}]).json()["predictions"]
    assert found == {"frame": [{"y": "a"}, {"y": "b"}], "rows": [{"a": 1, "b": None}, {"a": None, "b": None}], "missing": None}
    assert served.post("/tables", []).json()["predictions"]["frame"] == []


def test_csv_is_refused_for_a_record_with_tables_only(served: TestClient) -> None:
    refused = served.post("/sums", ROWS, headers={"accept": "text/csv"})
    assert (refused.status, refused.json()["code"]) == (406, "not_acceptable")
    assert refused.json()["detail"] == "CSV has no form for the table 'table' in a record; accept JSON, Arrow or Parquet"
    assert served.post("/flat", ROWS, headers={"accept": "text/csv"}).text == 'height,text\n2,"a,b"\n'


def test_large_answers_are_the_same() -> None:
    """Those that are encoded on a thread, and in Arrow sent from shared memory, for bodies in memory of their own."""
    with TestClient(repeated, sums) as client:
        for rows in (1_000, 60_000):
            xs = np.arange(rows) / 8
            body = io.BytesIO()
            pl.DataFrame({"x": xs}).write_ipc_stream(body)
            sent: dict[str, Any] = {"content": body.getvalue(), "headers": {"content-type": ARROW}}
            with ThreadPoolExecutor(2) as pool:
                record, many = pool.submit(client.post, "/sums", **sent), pool.submit(client.post, "/repeated", **sent, params={"times": 3})
            found = record.result().json()["predictions"]
            assert list(found) == ["name", "total", "table"]
            assert found["table"] == [{"i": i, "x": i / 8} for i in range(rows)]
            assert [each["x"] for each in many.result().json()["predictions"]] == xs.tolist() * 3
            sent["headers"]["accept"] = ARROW
            answer = pa.ipc.open_stream(client.post("/repeated", **sent, params={"times": 3}).content).read_all()
            assert answer.column("x").to_pylist() == xs.tolist() * 3
            (found,) = pa.ipc.open_stream(client.post("/sums", **sent).content).read_all().to_pylist()
            assert (found["total"], len(found["table"])) == (xs.sum(), rows)


def test_streamed_parts_may_be_records(served: TestClient) -> None:
    table = [{"i": 0, "x": 1.0}, {"i": 1, "x": 2.5}]
    assert served.post("/parts", ROWS).lines() == [{"name": "one", "total": x, "table": table} for x in (1.0, 2.5)]
    assert served.post("/parts", []).lines() == []


def test_the_output_schema_and_rejections_hold(served: TestClient) -> None:
    answer = served.post("/wrong", ROWS)
    assert (answer.status, answer.json()["code"], "Sums declares" in answer.json()["detail"]) == (500, "bad_result", True)
    answer = served.post("/sums", [{"x": -13}])
    assert (answer.status, answer.json()["errors"]) == (422, [{"row": 0, "reason": "no thirteen"}])


def test_a_batched_endpoint_keeps_its_row_count_and_says_the_way_out(served: TestClient) -> None:
    for x, message in ((0, "was given 2 rows and returned 1"), (1, "returned a dict")):
        answer = served.post("/strict", [{"x": x}, {"x": x}])
        assert (answer.status, answer.json()["code"]) == (500, "bad_result")
        assert message in answer.json()["detail"]
        assert "batched=False" in answer.json()["detail"]


def test_a_limit_of_rows_in_a_batch_is_refused() -> None:
    with pytest.raises(Declaration, match="batched=False makes none"):
        svc.endpoint("/both", batched=False, batch_max_size=10)(lambda frame: frame)


def test_the_document_allows_rows_and_a_record(served: TestClient) -> None:
    operations = {path: each["post"] for path, each in served.get("/openapi.json").json()["paths"].items() if "post" in each}
    responses = operations["/sums"]["responses"]
    rows, record = responses["200"]["content"]["application/json"]["schema"]["properties"]["predictions"]["anyOf"]
    assert rows["items"] == record
    assert list(record["properties"]) == ["name", "total", "table"]
    assert "406" in responses
    assert "406" not in operations["/strict"]["responses"]


def test_a_copy_for_a_mirror_is_compared_in_all_its_rows(make: Workers, front: Front) -> None:
    """Also a record. A request without rows is not copied."""
    own, alike, other = make("1.0"), make("1.0"), make("1.0", "--bias", 0.5)
    for shadow, equal, deviation in ((alike, 3, 0.0), (other, 0, 1.0)):
        front.table(
            own.route("own"), shadow.route(f"shadow{equal}"), sharing=SplitSpec({"own": 1}, "", MirrorSpec(f"shadow{equal}", 100.0))
        )
        for query, rows in (("", [1, 2]), ("?factor=2", [3]), ("?tags=a", [1])):
            answer = front.ask([{"x": x} for x in rows], path=f"/tiny/whole{query}")
            found = answer.json()["predictions"]
            factor = 2.0 if query == "?factor=2" else 1.0
            assert [each["x"] for each in (found["rows"] if query == "?tags=a" else found)] == [factor * x for x in rows] * 2
        seen: list[MirrorReport] = []
        while sum(each.requests for each in seen) < 3:
            seen.append(front.until(MirrorReport))
        assert sum(each.equal for each in seen) == equal
        assert max(each.deviation_max for each in seen) == deviation
    assert front.ask([], path="/tiny/whole?tags=a").json()["predictions"] == {"count": 0, "rows": []}


def test_a_record_that_contains_itself_is_a_bad_result(served: TestClient) -> None:
    """The worker goes on."""
    for _ in range(3):
        answer = served.post("/cyclic", [])
        assert answer.status == 500
        assert answer.json()["code"] == "bad_result"
        assert "contain themselves" in answer.json()["detail"]
        assert served.post("/cyclic", ROWS).json()["predictions"] == {"x": 2}
