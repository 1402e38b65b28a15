"""Endpoints with `group_by`: one call for each group of rows, whose failure is reported and takes no other group with it."""

from __future__ import annotations

import io
import json
import math
import socket
import time
from collections.abc import Iterator
from typing import Any

import polars as pl
import polars.testing
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field

import base.service as svc
from base.errors import Reject
from base.ipc.front_door_control import Configure
from base.schema import Schema
from base.testing import TestClient, TestResponse
from rawhttp import Raw, chunked, post
from waiting import until

ARROW, PARQUET = "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"
CSV, JSON, NDJSON = "text/csv", "application/json", "application/x-ndjson"


class Point(Schema):
    series: pl.String | None
    t: pl.Int64
    y: pl.Float64 = Field(lt=1e6)


class Forecast(Schema):
    series: pl.String | None
    t: pl.Int64
    yhat: pl.Float64


class Options(svc.Parameters):
    horizon: int = 2


CALLS: list[list[object]] = []
"""The rows of each call, as the values of its last column."""


def noted(frame: pl.DataFrame) -> pl.DataFrame:
    CALLS.append(frame.to_series(-1).to_list())
    return frame


def fitted(frame: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Forecasts the mean, unless the name of the group says how it fails."""
    noted(frame)
    match (frame["series"][0] or "").rstrip("0123456789"):
        case "short":
            raise Reject(422, "too few points", rows=[frame.height - 1])
        case "boom":
            raise RuntimeError("as it must")
        case "other":
            return pl.DataFrame({"series": ["x"], "t": [1], "yhat": [1.0]})
        case "text":
            return pl.DataFrame({"t": ["1"], "yhat": [1.0]})
    steps = pl.Series(range(frame["t"].max() + 1, frame["t"].max() + 1 + horizon), dtype=pl.Int64)  # type: ignore[operator]
    return pl.DataFrame({"t": steps, "yhat": pl.Series([frame["y"].mean()] * horizon, dtype=pl.Float64)})


@svc.endpoint("/forecast", group_by=["series"])
def forecast(frame: Point.DataFrame, options: Options) -> Forecast.DataFrame:
    return fitted(frame, options.horizon)


@svc.endpoint("/forecast_later", group_by=["series"])
async def forecast_later(frame: Point.DataFrame, options: Options) -> Forecast.DataFrame:
    return fitted(frame, options.horizon)


@svc.endpoint("/free", group_by=["k", "m"])
def free(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns a row for each row but the first."""
    return noted(frame).slice(1).select("i")


@svc.endpoint("/means", group_by=["series"])
def means(frame: pl.DataFrame, context: svc.Context) -> dict[str, object]:
    return {"mean": frame["y"].mean(), "series": frame["series"][0], "id": context.id}


@svc.endpoint("/values", group_by=["series"])
def values(frame: pl.DataFrame) -> list[object]:
    """Returns values whose types differ from group to group; for some groups nothing."""
    return [None if y == 0 else int(y) if y % 1 == 0 else y for y in frame["y"] if y >= 0]


@svc.endpoint("/columns", group_by=["series"])
def columns(frame: pl.DataFrame) -> pl.DataFrame:
    """Returns columns that the name of the group chooses; none for some."""
    return frame.select(pl.col("y").alias(each) for each in frame["series"][0].partition("_")[0])


@svc.endpoint("/slow", group_by=["series"])
def slow(frame: Point.DataFrame) -> Forecast.DataFrame:
    time.sleep(3.0 if frame["series"][0] == "slow" else 0.01)
    return fitted(frame, 1)


@svc.endpoint("/typed", group_by=["key"])
def typed(frame: pl.DataFrame) -> list[int]:
    return [frame.height]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    endpoints = (forecast, forecast_later, free, means, values, columns, slow, typed)
    with TestClient(*endpoints, limits=Configure(request_max_groups=2000)) as client:
        client.post("/typed", [{"key": 1}])  # makes the first segment
        yield client


@pytest.fixture(autouse=True)
def _forget() -> None:
    CALLS.clear()


def points(*names: str | None) -> list[dict[str, object]]:
    return [{"series": name, "t": t, "y": float(t)} for t, name in enumerate(names)]


def body_of(frame: pl.DataFrame, media_type: str) -> bytes:
    if media_type == JSON:
        return json.dumps(frame.to_dicts()).encode()
    if media_type == NDJSON:
        return b"".join(json.dumps(each).encode() + b"\n" for each in frame.to_dicts())
    if media_type == CSV:
        return frame.write_csv().encode()
    sink = io.BytesIO()
    (frame.write_ipc_stream if media_type == ARROW else frame.write_parquet)(sink)
    return sink.getvalue()


def table_of(answer: TestResponse) -> list[dict[str, object]]:
    """Returns the rows of a response by readers that are not ours."""
    match answer.headers["content-type"]:
        case "application/vnd.apache.arrow.stream":
            return pa.ipc.open_stream(answer.content).read_all().to_pylist()
        case "application/vnd.apache.parquet":
            return pq.read_table(io.BytesIO(answer.content)).to_pylist()
        case "text/csv":
            return pl.read_csv(answer.content).to_dicts()
    return answer.lines()


@pytest.mark.parametrize("send", [post, chunked], ids=["fast", "slow"])
@pytest.mark.parametrize("path", ["/forecast", "/forecast_later"])
def test_each_group_is_a_call_and_the_answers_are_in_the_order_of_the_groups(client: TestClient, send: Any, path: str) -> None:
    """Rows of a group need not be adjacent, and keep their order; null is a group. The parameters of the request apply to all."""
    rows = points("b", "a", "b", None, "a", None, "b")
    with Raw(client.address) as raw:
        raw.send(send(f"{path}?horizon=1", rows))
        answer = raw.answer()
    assert answer.status == 200
    assert answer.json()["predictions"] == [
        {"series": "b", "t": 7, "yhat": (0 + 2 + 6) / 3},
        {"series": "a", "t": 5, "yhat": 2.5},
        {"series": None, "t": 6, "yhat": 4.0},
    ]
    assert sorted(CALLS) == [[0, 2, 6], [1, 4], [3, 5]]


@pytest.mark.parametrize("media_type", [JSON, NDJSON, CSV, ARROW, PARQUET])
def test_a_failed_group_is_reported_and_the_others_are_answered(client: TestClient, media_type: str) -> None:
    """In every media type, with a status that is not that of a whole answer."""
    frame = pl.DataFrame(points("a", "short", "b", "boom", "a", "other", "short"))
    answer = client.post("/forecast", content=body_of(frame, media_type), headers={"content-type": media_type, "accept": media_type})
    assert (answer.status, answer.headers["x-pexdock-failed-groups"]) == (207, "3")
    assert answer.headers["content-type"] == media_type
    answered = [{"series": name, "t": t, "yhat": yhat} for name, t, yhat in [("a", 5, 2), ("a", 6, 2), ("b", 3, 2), ("b", 4, 2)]]
    if media_type == JSON:
        document = answer.json()
        assert document["predictions"] == answered
        failed = document["failed"]
        assert [(each["group"], each["status"], each["code"]) for each in failed] == [
            ({"series": "short"}, 422, "rejected"),
            ({"series": "boom"}, 500, "handler_failed"),
            ({"series": "other"}, 500, "bad_result"),
        ]
        assert failed[0]["detail"] == "too few points"
        assert failed[0]["errors"] == [{"row": 6, "reason": "too few points"}]
        assert "incident" in failed[1]["detail"]
        assert "as it must" not in answer.text
        assert "other values in the column 'series'" in failed[2]["detail"]
    else:
        rows = table_of(answer)
        assert rows[:4] == [{**each, "group_error": None} for each in answered]
        assert [(each["series"], each["t"], each["yhat"]) for each in rows[4:]] == [
            (name, None, None) for name in ("short", "boom", "other")
        ]
        assert rows[4]["group_error"] == "rejected: too few points"
        assert str(rows[5]["group_error"]).startswith("handler_failed: the handler forecast failed")


@pytest.mark.parametrize("send", [post, chunked], ids=["fast", "slow"])
def test_a_strict_client_gets_all_groups_or_none(client: TestClient, send: Any) -> None:
    """All groups are tried, and each one that failed is listed."""
    rows = points("a", "short", "b", "short_2", "short")
    strict = {"prefer": "respond-async;q=1, handling=strict"}
    answer = client.post("/forecast", points("a", "b"), headers=strict)
    assert (answer.status, len(answer.json()["predictions"])) == (200, 4)
    answer = client.post("/forecast", rows, headers=strict)
    assert (answer.status, answer.headers["content-type"]) == (422, "application/problem+json")
    assert answer.headers["preference-applied"] == "handling=strict"
    document = answer.json()
    assert document["detail"] == "1 of 4 groups failed; the group with series 'short': too few points"
    assert [each["group"] for each in document["groups"]] == [{"series": "short"}]
    assert len(CALLS) == 6
    assert client.post("/forecast", rows, headers={"prefer": "handling=lenient"}).status == 207


def test_a_request_of_which_every_group_fails_is_an_error(client: TestClient) -> None:
    """It has the gravest status, and lists each group. One group fails as a request to any other endpoint does."""
    answer = client.post("/forecast", points("short"))
    assert (answer.status, answer.json()["detail"], answer.json()["errors"]) == (
        422,
        "too few points",
        [{"row": 0, "reason": "too few points"}],
    )
    answer = client.post("/forecast", points("short", "boom"), headers={"accept": CSV})
    assert (answer.status, answer.json()["code"]) == (500, "handler_failed")
    assert [(each["group"]["series"], each["status"]) for each in answer.json()["groups"]] == [("short", 422), ("boom", 500)]


def test_groups_that_fail_alike_are_one_incident(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    """In each part: the log has its traceback once."""
    rows = [{"series": name, "t": t, "y": 0.0} for t in range(300) for name in (f"s{t}", f"boom{t}")]
    failed = client.post("/forecast", rows).json()["failed"]
    assert len(failed) == 300
    incidents = {each["detail"].rpartition(" ")[2] for each in failed}
    assert all(caplog.text.count(each) == 1 for each in incidents)
    assert caplog.text.count("RuntimeError: as it must") == len(incidents) <= 38  # parts have 17 groups


def test_a_row_that_does_not_fit_fails_its_group_only(client: TestClient) -> None:
    """If the constraint is one that only a worker checks."""
    rows = [*points("a", "b"), {"series": "b", "t": 9, "y": 2e6}]
    answer = client.post("/forecast", rows, params={"horizon": 1})
    assert answer.status == 207
    assert answer.json()["predictions"] == [{"series": "a", "t": 1, "yhat": 0.0}]
    (failed,) = answer.json()["failed"]
    assert (failed["group"], failed["code"], [each["row"] for each in failed["errors"]]) == ({"series": "b"}, "misfit", [2])


def test_requests_without_rows_and_with_wrong_ones_call_nothing(client: TestClient) -> None:
    assert client.post("/forecast", []).json()["predictions"] == []
    assert client.post("/free", []).json()["predictions"] == []
    answer = client.post("/free", [{"m": 1, "i": 2}])
    assert (answer.status, answer.json()["errors"]) == (422, [{"column": "k", "reason": "missing; the rows are grouped by this column"}])
    answer = client.post("/typed", [{"key": [1]}])
    assert (answer.status, answer.json()["errors"][0]["column"]) == (422, "key")
    answer = client.post("/typed", [{"key": each} for each in range(2001)])
    assert (answer.status, "2001 groups, limit 2000" in answer.json()["detail"]) == (413, True)
    assert not CALLS


def test_results_are_rows_records_or_values_with_the_columns_of_the_group(client: TestClient) -> None:
    """Types that are inferred in each call are joined, and a group may have no rows."""
    answer = client.post("/means", points("a", "b", "a")).json()
    assert answer["predictions"] == [{"series": name, "mean": 1.0, "id": answer["id"]} for name in ("a", "b")] or answer["predictions"] == [
        {"mean": 1.0, "series": name, "id": answer["id"]} for name in ("a", "b")
    ]
    rows = [{"series": name, "y": y} for name, y in [("a", 1.0), ("b", 2.5), ("c", -1.0), ("a", 0.0), ("d", 3.0)]]
    found = client.post("/values", rows).json()["predictions"]
    assert found == [{"series": name, "prediction": y} for name, y in [("a", 1.0), ("a", None), ("b", 2.5), ("d", 3.0)]]


@pytest.mark.parametrize("many", [0, 400])
def test_a_group_with_other_columns_than_most_fails(client: TestClient, many: int) -> None:
    """Also if it is the first, and in parts of one group or of many. One without columns has no rows."""
    names = ["b_1", "a_2", "a_3", "_4", *(f"a_x{number}" for number in range(many))]
    answer = client.post("/columns", points(*names))
    assert answer.status == 207
    assert answer.json()["predictions"] == [{"series": name, "a": float(t)} for t, name in enumerate(names) if name[0] == "a"]
    (failed,) = answer.json()["failed"]
    assert (failed["group"], failed["code"]) == ({"series": "b_1"}, "bad_result")
    assert "returned the columns ['series', 'b'], but ['series', 'a'] for most groups" in failed["detail"]


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([math.nan, 1.0, None, math.nan, 0.0, -0.0, None], [math.nan, 1.0, None, 0.0]),
        ([True, None, False, True], [True, None, False]),
        ([None, None], [None]),
    ],
)
def test_nan_null_and_zeros_are_values_like_others(client: TestClient, values: list[object], groups: list[object]) -> None:
    sink = io.BytesIO()
    pl.DataFrame({"key": values}).write_ipc_stream(sink)
    answer = client.post("/typed", content=sink.getvalue(), headers={"content-type": ARROW, "accept": ARROW})
    assert answer.status == 200, answer.content
    found = pl.read_ipc_stream(answer.content)
    pl.testing.assert_series_equal(found["key"], pl.Series("key", groups), check_dtypes=False)
    assert found["prediction"].sum() == len(values)


@settings(deadline=None, max_examples=50)
@given(
    rows=st.lists(st.tuples(st.sampled_from([None, "", "a", "b", "ä"]), st.integers(-1, 1) | st.none()), min_size=1, max_size=40),
    media_type=st.sampled_from([JSON, ARROW, PARQUET]),
)
def test_the_answer_is_that_of_grouping_by_hand(client: TestClient, rows: list[tuple[str | None, int | None]], media_type: str) -> None:
    """For any rows; every media type is read by others."""
    CALLS.clear()
    by_hand: dict[tuple[str | None, int | None], list[int]] = {}
    for i, key in enumerate(rows):
        by_hand.setdefault(key, []).append(i)
    frame = pl.DataFrame(
        {"k": [k for k, _ in rows], "m": [m for _, m in rows], "i": range(len(rows))}, schema={"k": pl.String, "m": pl.Int64, "i": pl.Int64}
    )
    answer = client.post("/free", content=body_of(frame, media_type), headers={"content-type": media_type, "accept": media_type})
    assert answer.status == 200, answer.content
    found = answer.json()["predictions"] if media_type == JSON else table_of(answer)
    assert found == [{"k": k, "m": m, "i": i} for (k, m), places in by_hand.items() for i in places[1:]]
    assert sorted(CALLS) == sorted(by_hand.values())


def test_many_groups_in_a_large_body_are_answered_in_order(client: TestClient) -> None:
    """More groups than parts, in memory of the body's own."""
    count = 100_000
    frame = pl.DataFrame({"key": [i * 7 % 1999 for i in range(count)], "x": [float(i) for i in range(count)]})
    answer = client.post("/typed", content=body_of(frame, ARROW), headers={"content-type": ARROW, "accept": ARROW})
    assert answer.status == 200, answer.content
    found = pa.ipc.open_stream(answer.content).read_all()
    assert found["key"].to_pylist() == [i * 7 % 1999 for i in range(1999)]
    assert found["prediction"].to_pylist() == [51 if i < count % 1999 else 50 for i in range(1999)]


def test_a_group_that_is_late_fails_and_those_before_it_are_answered(client: TestClient) -> None:
    answer = client.post("/slow", points("a", "b", "slow", "c"), headers={"x-request-timeout-ms": "1000"})
    assert answer.status == 207
    assert [each["series"] for each in answer.json()["predictions"]] == ["a", "b"]
    assert [(each["group"]["series"], each["code"]) for each in answer.json()["failed"]] == [
        ("slow", "deadline_exceeded"),
        ("c", "deadline_exceeded"),
    ]


def test_no_call_begins_after_the_client_has_left(client: TestClient) -> None:
    body = json.dumps(points(*(f"s{i}" for i in range(1000)))).encode()
    head = f"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    host, _, port = client.address.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as left:
        left.sendall(head.encode() + body)
        until(lambda: len(CALLS) > 2)
    counts = [-1, len(CALLS)]
    while counts[-1] != counts[-2]:
        time.sleep(0.5)
        counts.append(len(CALLS))
    assert counts[-1] < 900


def test_the_document_describes_partial_answers(client: TestClient) -> None:
    operation = client.get("/openapi.json").json()["paths"]["/forecast"]["post"]
    partial = operation["responses"]["207"]
    assert "X-Pexdock-Failed-Groups" in partial["headers"]
    assert {"predictions", "failed"} <= set(partial["content"][JSON]["schema"]["properties"])
    assert {"$ref": "#/components/parameters/Prefer"} in operation["parameters"]
