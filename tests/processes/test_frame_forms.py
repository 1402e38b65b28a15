"""Handlers take and return rows in the forms that their authors know, over HTTP in each lifecycle."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field
from sklearn.linear_model import LinearRegression

import base.artifacts as afs
import base.service as svc
from base.errors import Declaration
from base.schema import Schema
from base.testing import TestClient


class Passenger(Schema):
    deck: pl.String | None = Field(default=None, alias="Cabin deck", pattern="^[A-Z]$")
    class_: pl.Int64 = Field(alias="class", ge=1, examples=[3], description="of the ticket")
    fare: pl.Float64 | None = None
    sex: Annotated[str, pl.Enum(["f", "m"])] = "f"


class Size(Schema):
    width: pl.Float64
    height: pl.Int32


class Score(Schema):
    low: pl.Float64 = Field(alias="p(low)")
    high: pl.Float64


@svc.endpoint("/pandas")
def with_pandas(records_df: Passenger.PandasFrame) -> pd.DataFrame:
    assert isinstance(records_df.index, pd.RangeIndex)
    kinds = ",".join(map(str, records_df.dtypes))
    return records_df.assign(kinds=kinds, is_none=[each is None for each in records_df["Cabin deck"]])[["kinds", "is_none", "class"]]


@svc.endpoint("/plain-pandas")
async def with_plain_pandas(records_df: pd.DataFrame) -> pd.Series:
    return records_df.isna().sum(axis=1)


@svc.endpoint("/numpy")
def with_numpy(records: Size.NumpyArray) -> Score.NumpyArray:
    assert records.dtype == np.float64
    return records * [1, 10]


@svc.endpoint("/rows")
def with_rows(records: list[Passenger]) -> list[Score]:
    return [Score(low=each.class_, high=len(each.deck or "")) for each in records]


@svc.endpoint("/arrow", batch_max_size=1)
def with_arrow(records: Size.ArrowTable) -> pa.Table:
    assert records.num_rows == 1
    return records.select(["height"])


@svc.endpoint("/lazy")
def with_lazy(records: Size.LazyFrame) -> pl.LazyFrame:
    return records.select(area=pl.col("width") * pl.col("height"))


@svc.endpoint("/groups", group_by=["class"])
def in_groups(records_df: Passenger.PandasFrame) -> dict[str, object]:
    return {"rows": len(records_df), "fare": records_df["fare"].sum()}


@svc.endpoint("/report", batched=False)
def report(records: list[Passenger]) -> list[Score]:
    return []


@svc.endpoint("/stream")
def stream(records_df: Passenger.PandasFrame) -> Iterator[pd.DataFrame]:
    for _, part in records_df.groupby("class"):
        yield part[["class", "fare"]]


@svc.endpoint("/weights/{name}", cache_config=afs.CacheConfig(load_model=lambda parameters: np.array([[float(parameters["name"])], [1.0]])))
def with_weights(weights: np.ndarray[Any, Any], records: Size.NumpyArray) -> np.ndarray[Any, Any]:
    return (records @ weights)[:, 0]


@svc.endpoint("/echo")
def echo(records_df: Passenger.DataFrame) -> Passenger.DataFrame:
    return records_df


ENDPOINTS = [value for value in list(globals().values()) if isinstance(value, svc.Endpoint)]
ROWS = [{"Cabin deck": "A", "class": 1, "fare": 2.5, "sex": "m"}, {"class": 2}]
FULL = [ROWS[0], {"Cabin deck": None, "class": 2, "fare": None, "sex": "f"}]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(*ENDPOINTS) as started:
        started.post("/echo", json=ROWS)  # the segment that all tests share comes with the first batch
        yield started


@pytest.mark.parametrize(
    ("path", "rows", "predictions"),
    [
        (
            "/pandas",
            ROWS,
            [
                {"kinds": "object,int64,float64,category", "is_none": False, "class": 1},
                {"kinds": "object,int64,float64,category", "is_none": True, "class": 2},
            ],
        ),
        ("/plain-pandas", [{"a": 1, "b": None}, {"a": 2, "b": "x"}], [1, 0]),
        ("/numpy", [{"width": 0.5, "height": 2}, {"width": 1, "height": 3}], [{"p(low)": 0.5, "high": 20}, {"p(low)": 1, "high": 30}]),
        ("/rows", ROWS, [{"p(low)": 1, "high": 1}, {"p(low)": 2, "high": 0}]),
        ("/arrow", [{"width": 0.5, "height": 2}, {"width": 1, "height": 3}], [{"height": 2}, {"height": 3}]),
        ("/lazy", [{"width": 0.5, "height": 2}], [{"area": 1.0}]),
        ("/groups", [*ROWS, ROWS[0]], [{"class": 1, "rows": 2, "fare": 5.0}, {"class": 2, "rows": 1, "fare": 0.0}]),
        ("/report", ROWS, []),
        ("/weights/2", [{"width": 0.5, "height": 2}], [3.0]),
        ("/echo", ROWS, FULL),
    ],
)
def test_rows_come_and_go_in_the_form_that_the_handler_declares(client: TestClient, path: str, rows: Any, predictions: Any) -> None:
    """Alone and in one batch, also for handlers that are async, divided, grouped, or have a model that is an array itself."""
    answer = client.post(path, json=rows)
    assert (answer.status, answer.json().get("predictions")) == (200, predictions), answer.text


@svc.endpoint("/texts")
def texts(records_df: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"text": ["x" * 20_000] * records_df.height, "parts": [["a", "b"]] * records_df.height})


@svc.endpoint("/parts")
def text_parts(records_df: pl.DataFrame) -> Iterator[pl.DataFrame]:
    for _ in range(2):
        yield texts(records_df)


def test_texts_have_plain_types_in_arrow_whatever_way_they_take() -> None:
    """In small responses, in large ones, and in streams, unless the client asks for views."""
    headers = {"accept": "application/vnd.apache.arrow.stream"}
    with TestClient(texts, text_parts) as started:
        for path, count, parts in (("/texts", 2, 1), ("/texts", 100, 1), ("/parts", 3, 2)):
            answer = started.post(path, json=[{"a": 1}] * count, headers=headers)
            found = pa.ipc.open_stream(answer.content).read_all()
            assert found.schema.types == [pa.string(), pa.list_(pa.string())]
            assert found.to_pylist() == [{"text": "x" * 20_000, "parts": ["a", "b"]}] * (count * parts)
        for count in (2, 100):
            answer = started.post("/texts", json=[{"a": 1}] * count, headers={"accept": f"text/html, {headers['accept']} ; views=true"})
            found = pa.ipc.open_stream(answer.content).read_all()
            assert answer.headers["content-type"] == headers["accept"]
            assert found.schema.types == [pa.string_view(), pa.large_list(pa.string_view())]
            assert found.to_pylist() == [{"text": "x" * 20_000, "parts": ["a", "b"]}] * count


def test_a_stream_of_pandas_frames(client: TestClient) -> None:
    """A part for each of them."""
    assert client.post("/stream", json=ROWS).lines() == [{"class": 1, "fare": 2.5}, {"class": 2, "fare": None}]


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def _arrow(rows: list[dict[str, Any]]) -> bytes:
    table, sink = pa.Table.from_pylist(rows), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/x-ndjson", b'{"Cabin deck":"A","class":1,"fare":2.5,"sex":"m"}\n{"class":2}\n'),
        ("text/csv", b"Cabin deck,class,fare,sex\nA,1,2.5,m\n,2,,f\n"),
        ("application/vnd.apache.parquet", _parquet(FULL)),
        ("application/vnd.apache.arrow.stream", _arrow(FULL)),
    ],
)
def test_an_alias_is_the_name_of_a_column_in_every_media_type(client: TestClient, media_type: str, body: bytes) -> None:
    """In requests and in responses."""
    answer = client.post("/echo", content=body, headers={"content-type": media_type, "accept": media_type})
    assert answer.status == 200, answer.text
    if media_type == "application/x-ndjson":
        assert answer.lines() == FULL
    elif media_type == "text/csv":
        assert answer.text == "Cabin deck,class,fare,sex\nA,1,2.5,m\n,2,,f\n"
    elif media_type == "application/vnd.apache.parquet":
        assert pq.read_table(io.BytesIO(answer.content)).to_pylist() == FULL
    else:
        assert pa.ipc.open_stream(answer.content).read_all().to_pylist() == FULL


def test_errors_and_documentation_name_columns_by_their_alias(client: TestClient) -> None:
    """A field's own name is an unknown field."""
    answer = client.post("/echo", json=[{"class": 1}, {"class_": 1}])
    assert answer.json()["errors"] == [{"row": 1, "column": "class", "reason": "the field is missing"}]
    answer = client.post("/pandas", json=[{"Cabin deck": "ab", "class": 0}])
    assert [each["column"] for each in answer.json()["errors"]] == ["Cabin deck", "class"]
    row = client.get("/openapi.json").json()["components"]["schemas"]["development.echo"]
    assert row["required"] == ["class"]
    assert list(row["properties"]) == ["Cabin deck", "class", "fare", "sex"]
    assert (row["properties"]["class"]["minimum"], row["properties"]["class"]["description"]) == (1, "of the ticket")


def test_an_example_of_bytes_is_base64_where_clients_see_it() -> None:
    """In the OpenAPI document, from where it can be sent."""

    class Photo(Schema):
        image: pl.Binary = Field(examples=[b"\x89PNG\xff"])

    @svc.endpoint("/photos")
    def photos(records_df: Photo.DataFrame) -> pl.Series:
        return records_df["image"].bin.size()

    with TestClient(photos) as started:
        operation = started.get("/openapi.json").json()["paths"]["/photos"]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        assert example == [{"image": "iVBOR/8="}]
        assert started.post("/photos", json=example).json()["predictions"] == [5]


def test_what_a_handler_cannot_be_given_is_refused_when_it_is_declared() -> None:
    """With what to write instead."""
    with pytest.raises(Declaration, match=r"column 'Cabin deck' of Passenger is String, and a matrix has numbers only"):

        @svc.endpoint("/matrix")
        def matrix(records: Passenger.NumpyArray) -> None: ...

    with pytest.raises(Declaration, match=r"annotate with Size.DataFrame or list\[Size\]"):

        @svc.endpoint("/one")
        def one(record: Size) -> None: ...

    with pytest.raises(Declaration, match=r"columns from a schema"):

        @svc.endpoint("/bare")
        def bare(records: np.ndarray[Any, Any]) -> None: ...


def test_a_model_that_was_fitted_on_other_columns_is_not_loaded() -> None:
    """A matrix has no names, so they are compared once, at the load; a model of the same columns computes what it computes on a frame."""
    frame = pd.DataFrame({"width": [0.0, 1.0, 2.0, 3.0], "height": [5.0, 5.0, 1.0, 1.0]})
    models = {
        "same": LinearRegression().fit(frame, [1.0, 2.0, 3.0, 4.0]),
        "turned": LinearRegression().fit(frame[["height", "width"]], [1.0, 2.0, 3.0, 4.0]),
        "nameless": LinearRegression().fit(frame.to_numpy(), [1.0, 2.0, 3.0, 4.0]),
    }

    @svc.endpoint("/fitted/{name}", cache_config=afs.CacheConfig(load_model=lambda parameters: models[parameters["name"]]))
    def fitted(model: LinearRegression, records: Size.NumpyArray) -> np.ndarray[Any, Any]:
        return model.predict(records)

    rows = [{"width": 1.5, "height": 2}, {"width": -1, "height": 7}]
    expected = models["same"].predict(pd.DataFrame(rows)).tolist()
    with TestClient(fitted) as client:
        for name in ("same", "nameless"):
            assert client.post(f"/fitted/{name}", json=rows).json()["predictions"] == pytest.approx(expected)
        answer = client.post("/fitted/turned", json=rows)
    assert (answer.status, answer.json()["code"]) == (500, "load_failed")
    assert (
        "the model was fitted on the columns ['height', 'width'], and a matrix of Size has ['width', 'height']" in answer.json()["detail"]
    )
