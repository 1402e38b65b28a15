"""Requests of more rows than a call of the handler may have."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import polars as pl
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

import base.service as svc
from base.endpoint.endpoint import Endpoint
from base.errors import Reject
from base.ipc.front_door_control import Configure, FailureLimit, OutcomeReport
from base.schema import Schema
from base.testing import TestClient
from front_harness import Front, Workers
from supervisor_harness import Supervised
from tinypex import write_tiny
from waiting import until


class Row(Schema):
    x: pl.Int64


class Named(Schema):
    name: pl.String | None


class Nested(Schema):
    a: Annotated[list[float] | None, pl.Array(pl.Float64, 2)]
    b: Annotated[list[list[float]] | None, pl.List(pl.Array(pl.Float64, 2))]
    c: Annotated[dict[str, list[float]] | None, pl.Struct({"v": pl.Array(pl.Float64, 2)})]


CALLS: list[int] = []


def noted(records_df: pl.DataFrame) -> pl.Series:
    CALLS.append(len(records_df))
    return records_df["x"]


@svc.endpoint("/typed", batch_max_size=16, batch_check=False)
def typed(records_df: Row.DataFrame) -> pl.Series:
    return noted(records_df) * 3


@svc.endpoint("/free", batch_max_size=16)
def free(records_df: pl.DataFrame) -> list[object]:
    """Without schemas. The first calls return integers, the last one fractions and nothing."""
    return [x if x < 90 else None if x % 2 else x / 4 for x in noted(records_df).to_list()]


@svc.endpoint("/texts", batch_max_size=16, batch_check=False)
def texts(records_df: Row.DataFrame) -> Named.DataFrame:
    return pl.DataFrame({"name": [f"n{x}" if x % 3 else None for x in noted(records_df).to_list()]})


@svc.endpoint("/whole", batch_check=False)
def whole(records_df: Row.DataFrame) -> pl.Series:
    return noted(records_df)


@svc.endpoint("/alone", batch_max_size=16, batch_check=False)
def alone(records_df: Row.DataFrame, context: svc.Context) -> pl.Series:
    return noted(records_df)


@svc.endpoint("/refuses", batch_max_size=16, batch_check=False)
def refuses(records_df: Row.DataFrame) -> pl.Series:
    bad = [row for row, x in enumerate(noted(records_df).to_list()) if x == 77]
    if bad:
        raise Reject(422, "no 77", rows=bad)
    return records_df["x"]


@svc.endpoint("/short", batch_max_size=16, batch_check=False)
def short(records_df: Row.DataFrame) -> list[int]:
    return noted(records_df).to_list()[: 16 if 50 not in records_df["x"] else 3]


@svc.endpoint("/other", batch_max_size=16, batch_check=False)
def other(records_df: Row.DataFrame) -> pl.DataFrame:
    return noted(records_df).to_frame("a" if 0 in records_df["x"] else "b")


@svc.endpoint("/slow", batch_max_size=1, batch_check=False)
def slow(records_df: Row.DataFrame) -> pl.Series:
    time.sleep(0.1)
    return noted(records_df)


@svc.endpoint("/nested", batch_max_size=3, batch_check=False)
def nested(records_df: Nested.DataFrame) -> Nested.DataFrame:
    CALLS.append(len(records_df))
    return records_df


@svc.endpoint("/nested_free", batch_max_size=3)
def nested_free(records_df: pl.DataFrame) -> pl.DataFrame:
    CALLS.append(len(records_df))
    return records_df


@svc.endpoint("/nested_async", batch_max_size=3, batch_check=False)
async def nested_async(records_df: Nested.DataFrame) -> pa.Table:
    """Returns slices of Arrow columns."""
    CALLS.append(len(records_df))
    table = pl.concat([records_df, records_df]).to_arrow().combine_chunks()
    return table.slice(len(records_df))


RUNNING: list[int] = [0, 0]
"""The calls that run now, and the largest number of them so far."""


@svc.endpoint("/awaits", batch_max_size=2, batch_check=False)
async def awaits(records_df: Row.DataFrame) -> pl.Series:
    RUNNING[0] += 1
    RUNNING[1] = max(RUNNING)
    await asyncio.sleep(0.02)
    RUNNING[0] -= 1
    return noted(records_df) * 5


@svc.endpoint("/refuses_later", batch_max_size=2, batch_check=False)
async def refuses_later(records_df: Row.DataFrame) -> pl.Series:
    await asyncio.sleep(0.01)
    if 77 in records_df["x"]:
        raise Reject(422, "no 77", rows=[1])
    return noted(records_df)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    endpoints = (typed, free, texts, whole, alone, refuses, short, other, slow, nested, nested_free, nested_async, awaits, refuses_later)
    with TestClient(*endpoints, limits=Configure(request_max_rows=200_000)) as client:
        client.post("/typed", json=rows(1))  # makes the first segment
        yield client


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


def rows(count: int) -> list[dict[str, int]]:
    return [{"x": number} for number in range(count)]


def arrow(count: int) -> bytes:
    sink = pa.BufferOutputStream()
    table = pa.table({"x": range(count)})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def test_no_call_has_more_rows_than_the_author_wants(client: TestClient) -> None:
    """100 rows are six calls of 16 and one of 4, and their answers are in order."""
    assert client.post("/typed", json=rows(100)).json()["predictions"] == [3 * x for x in range(100)]
    assert CALLS == [16, 16, 16, 16, 16, 16, 4]


def test_types_that_are_inferred_in_each_call_are_joined(client: TestClient) -> None:
    """As if the handler had returned all values in one list."""
    expected = [float(x) if x < 90 else None if x % 2 else x / 4 for x in range(100)]
    assert client.post("/free", json=rows(100)).json()["predictions"] == expected
    found = client.post("/texts", json=rows(40)).json()["predictions"]
    assert [each["name"] if isinstance(each, dict) else each for each in found] == [f"n{x}" if x % 3 else None for x in range(40)]
    assert max(CALLS) == 16


def test_a_large_body_that_is_used_in_place_is_divided_too() -> None:
    """Its rows are in the shared memory of the body."""
    headers = {"content-type": "application/vnd.apache.arrow.stream", "accept": "application/vnd.apache.arrow.stream"}
    with TestClient(typed) as client:
        reply = client.post("/typed", content=arrow(40_000), headers=headers)
    assert reply.status == 200
    assert pa.ipc.open_stream(reply.content).read_all()[0].to_pylist() == [3 * x for x in range(40_000)]
    assert CALLS == [16] * 2500


def test_a_request_is_whole_where_the_author_does_not_divide_it(client: TestClient) -> None:
    """Without `batch_max_size`, and with a context."""
    assert client.post("/whole", json=rows(100)).json()["predictions"] == list(range(100))
    assert client.post("/alone", json=rows(100)).json()["predictions"] == list(range(100))
    assert CALLS == [100, 100]


def test_a_rejected_row_has_its_number_in_the_request(client: TestClient) -> None:
    """The request fails as a whole."""
    reply = client.post("/refuses", json=rows(100))
    assert (reply.status, [error["row"] for error in reply.json()["errors"]]) == (422, [77])
    assert CALLS == [16] * 5


@pytest.mark.parametrize(
    ("path", "reason"), [("/short", "rows 48 to 63: the handler was given 16 rows and returned 3"), ("/other", "other columns")]
)
def test_a_bad_result_of_one_call_fails_the_request(client: TestClient, path: str, reason: str) -> None:
    """The reason names the rows of the call, or that the parts do not fit together."""
    reply = client.post(path, json=rows(100))
    assert (reply.status, reply.json()["code"]) == (500, "bad_result")
    assert reason in reply.json()["detail"]


def test_nothing_is_computed_after_the_deadline(client: TestClient) -> None:
    """The calls that remain are left out, so that the worker is free again."""
    assert client.post("/slow", json=rows(300), headers={"x-request-timeout-ms": "500"}).status == 504
    assert client.post("/typed", json=rows(1)).status == 200
    assert len(CALLS) < 100


@pytest.mark.parametrize("handler", [slow, awaits])
def test_no_call_begins_after_the_client_has_left(handler: Endpoint[..., object]) -> None:
    """So other requests do not wait for what nobody reads. The handlers may be plain or async."""
    body = json.dumps(rows(30_000)).encode()
    head = f"POST {handler.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with TestClient(handler, typed) as client:
        host, _, port = client.address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port))) as left:
            left.sendall(head.encode() + body)
            until(lambda: len(CALLS) > 2)
        counts = [-1, len(CALLS)]
        while counts[-1] != counts[-2]:
            time.sleep(1)
            counts.append(len(CALLS))
        assert counts[-1] < 10_000
        assert client.post("/typed", json=rows(1)).json()["predictions"] == [0]


def test_the_rows_of_a_request_are_limited(client: TestClient) -> None:
    """In every media type, before the handler is called."""
    headers = {"content-type": "application/vnd.apache.arrow.stream"}
    for content, more in ((arrow(200_001), headers), (json.dumps(rows(200_001)).encode(), {})):
        reply = client.post("/whole", content=content, headers=more)
        assert (reply.status, reply.json()["code"]) == (413, "too_large")
        assert "200001 rows, limit 200000" in reply.json()["detail"]
    assert not CALLS


NESTED = {
    "a": [[1.0, 2.0], None, [3.0, 4.0], None, [5.0, None], [6.0, 7.0], None],
    "b": [[[1.0, 2.0], None], None, [], [None, [3.0, 4.0]], [[5.0, 6.0]], [None], []],
    "c": [{"v": [1.0, 2.0]}, None, {"v": None}, {"v": [3.0, 4.0]}, None, {"v": None}, {"v": [5.0, 6.0]}],
}
"""Arrays with nulls, alone, in lists and in structs; seven rows are three calls of three."""


def nested_body(media: str) -> bytes:
    """Returns these rows in a media type."""
    pair = pa.list_(pa.float64(), 2)
    kinds = {"a": pair, "b": pa.list_(pair), "c": pa.struct([("v", pair)])}
    table = pa.table({name: pa.array(values, kinds[name]) for name, values in NESTED.items()})
    sink = pa.BufferOutputStream()
    if media.endswith("parquet"):
        pq.write_table(table, sink)
    elif media.endswith("stream"):
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
    else:
        return json.dumps(table.to_pylist()).encode()
    return bytes(sink.getvalue())


@pytest.mark.parametrize("media", ["application/json", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"])
@pytest.mark.parametrize("path", ["/nested", "/nested_free", "/nested_async"])
def test_array_columns_with_nulls_are_divided(client: TestClient, path: str, media: str) -> None:
    """Each call gets its own rows of them, and its result goes back as it is."""
    reply = client.post(path, content=nested_body(media), headers={"content-type": media})
    assert reply.status == 200, reply.content
    expected = [{"a": a, "b": b, "c": c} for a, b, c in zip(*NESTED.values(), strict=True)]
    assert reply.json()["predictions"] == expected
    assert sorted(CALLS) == [1, 3, 3]


def test_the_columns_of_a_divided_request_are_converted_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in each call: a request of many columns would take time for columns times calls."""
    converted: list[int] = []
    convert = Nested.frame
    monkeypatch.setattr(Nested, "frame", lambda batch: converted.append(batch.num_rows) or convert(batch))
    media = "application/vnd.apache.arrow.stream"
    assert client.post("/nested", content=nested_body(media), headers={"content-type": media}).status == 200
    assert (CALLS, converted) == ([3, 3, 1], [7])


@pytest.mark.parametrize("media", ["application/json", "application/vnd.apache.arrow.stream"])
def test_the_calls_of_an_async_handler_run_at_the_same_time(client: TestClient, media: str) -> None:
    """Its rows are answered in their order, in every format, and other requests are answered in between."""
    RUNNING[:] = [0, 0]
    body = arrow(1001) if media.endswith("stream") else json.dumps(rows(1001)).encode()
    with ThreadPoolExecutor(1) as thread:
        large = thread.submit(client.post, "/awaits", content=body, headers={"content-type": media, "accept": media})
        assert client.post("/awaits", json=[{"x": 7}]).json()["predictions"] == [35]
        reply = large.result()
    assert reply.status == 200, reply.content
    found = pa.ipc.open_stream(reply.content).read_all()[0].to_pylist() if media.endswith("stream") else reply.json()["predictions"]
    assert found == [5 * x for x in range(1001)]
    assert 2 <= RUNNING[1] <= 16
    assert (max(CALLS), sum(CALLS)) == (2, 1002)


def test_a_rejected_row_of_a_part_has_its_number_in_the_request(client: TestClient) -> None:
    """The other parts are not computed any further, and the worker answers the next request."""
    reply = client.post("/refuses_later", json=rows(500))
    assert (reply.status, reply.json()["detail"], [error["row"] for error in reply.json()["errors"]]) == (422, "no 77", [77])
    assert client.post("/refuses_later", json=rows(2)).json()["predictions"] == [0, 1]


SHARED = """
    import os, pathlib, time
    import polars as pl
    import base.service as svc
    from base.schema import Schema

    class Row(Schema):
        x: pl.Int64

    @svc.endpoint(path="/shared", batch_max_size=4)
    def predict(records_df: Row.DataFrame) -> pl.DataFrame:
        met = pathlib.Path("FOLDER")
        if 18 in records_df["x"] and not (met / "died").exists():
            [each.unlink() for each in met.iterdir()]
            (met / "died").touch()
            os._exit(1)
        if len(records_df) == 4:  # a call of the large request waits until another worker computes some of it, too
            while True:
                (met / str(os.getpid())).touch()  # again, if the worker that dies has just removed it
                if not (met / "died").exists() or len(list(met.glob("[0-9]*"))) > 1:
                    break
                time.sleep(0.01)
        return records_df.select(twice=pl.col("x") * 2, pid=pl.lit(os.getpid()))
"""


def test_a_large_request_is_divided_over_the_workers(tmp_path: Path) -> None:
    """A worker that dies with a part takes nothing with it: the part is computed by another. Columns of 1000 rows go back in order."""
    met = tmp_path / "met"
    met.mkdir()
    supervised = Supervised(tmp_path, workers_per_release=2, restart_delay_min_s=0.05)
    write_tiny(supervised.dist / "shared.pex", "shared", module=SHARED.replace("FOLDER", str(met)))
    with supervised:
        url = supervised.state()["address"] + "/shared"
        reply = httpx.post(url, json=rows(1000), timeout=60)
    assert reply.status_code == 200, reply.text
    predictions = reply.json()["predictions"]
    assert [each["twice"] for each in predictions] == [2 * x for x in range(1000)]
    assert len({each["pid"] for each in predictions}) >= 2
    assert (met / "died").exists()


def test_a_divided_request_counts_once_towards_the_limit_of_failures(make: Workers, front: Front) -> None:
    """However many parts it has, and whether it fails or not: the release is neither kept from its requests nor given up too early."""
    first, second = make("1.0"), make("1.0")
    front.table(first.route("it", second, failure_limit=FailureLimit(4, 50.0)))
    for x in (1, 2, -1):
        assert front.ask([{"x": x}] * 200).status == (200 if x > 0 else 500)
    reports: list[OutcomeReport] = []
    while sum(each.answered for each in reports) < 3:
        reports.append(front.until(OutcomeReport))
    assert (sum(each.failed for each in reports), [each.limit_reached for each in reports]) == (1, [False] * len(reports))
