"""Responses in the format that a client accepts."""

from __future__ import annotations

import datetime as dt
import io
from typing import Any

import msgspec
import polars as pl
import pyarrow as pa
import pytest

import frames
from base.errors import BadResult
from runtime.front.codecs import encoder as encoder_module
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat

RECORDS = frames.batch(pl.DataFrame({"a": [1.0, float("nan"), 3.0], "d": [dt.date(2024, 1, 31), None, None], "l": [[1], [], None]}))
SCALARS = pa.record_batch({"prediction": pa.array([1.5, 2.5, 3.5])})


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", ResponseFormat.JSON),
        ("*/*", ResponseFormat.JSON),
        ("text/html", ResponseFormat.JSON),
        ("text/csv", ResponseFormat.CSV),
        ("Application/X-NDJSON; charset=utf-8", ResponseFormat.NDJSON),
        ("application/jsonl", ResponseFormat.NDJSON),
        ("application/vnd.apache.parquet", ResponseFormat.PARQUET),
        ("application/json, application/vnd.apache.arrow.stream", ResponseFormat.JSON),
        ("application/json;q=0.5, application/vnd.apache.arrow.stream;q=0.9, */*;q=0.1", ResponseFormat.ARROW),
        ("text/csv;q=0", ResponseFormat.JSON),
        ("text/*", ResponseFormat.CSV),
        ("application/*", ResponseFormat.JSON),
        ("text/csv;q=nonsense", ResponseFormat.JSON),
        ("application/vnd.apache.arrow.stream", ResponseFormat.ARROW),
        ("application/vnd.apache.arrow.stream; Views=TRUE; q=0.5", ResponseFormat.ARROW_VIEWS),
        ("application/vnd.apache.arrow.stream; views=false", ResponseFormat.ARROW),
    ],
)
def test_the_format_is_the_one_that_the_client_prefers(accept: str, form: ResponseFormat) -> None:
    """It is JSON where the client accepts none of the formats."""
    assert ResponseFormat.negotiate(accept) is form


@pytest.mark.parametrize(
    ("kind", "plain"),
    [
        (pa.string(), pa.string()),
        (pa.string_view(), pa.string()),
        (pa.large_string(), pa.string()),
        (pa.list_(pa.string_view()), pa.list_(pa.string())),
        (pa.large_list(pa.string_view()), pa.list_(pa.string())),
        (pa.list_(pa.string_view(), 1), pa.list_(pa.string(), 1)),
        (pa.struct({"f": pa.string_view()}), pa.struct({"f": pa.string()})),
        (pa.map_(pa.string_view(), pa.string_view()), pa.map_(pa.string(), pa.string())),
        (pa.binary_view(), pa.binary()),
    ],
    ids=str,
)
def test_an_arrow_body_has_plain_types_and_no_text_of_another_request(kind: pa.DataType, plain: pa.DataType) -> None:
    """Texts of a batch share memory, whatever holds them. Not every reader knows views and large lists."""
    texts = [f"the secret of client {number}" for number in range(3)]
    rows: list[Any] = [text.encode() if kind == pa.binary_view() else text for text in texts]
    if pa.types.is_struct(kind):
        rows = [{"f": row} for row in rows]
    elif kind.num_fields:
        rows = [[(row, row)] if pa.types.is_map(kind) else [row] for row in rows]
    encoder = ReplyEncoder(pa.record_batch({"prediction": pa.array(rows, kind)}))
    body = bytes(encoder.encode_body(ResponseFormat.ARROW, "x", 1, 1))
    assert [text.encode() in body for text in texts] == [False, True, False]
    assert pa.ipc.open_stream(body).read_all() == pa.table({"prediction": pa.array(rows[1:2], plain)})
    views = encoder.encode_body(ResponseFormat.ARROW_VIEWS, "x", 1, 1)
    assert pa.ipc.open_stream(views).read_all() == pa.table({"prediction": pa.array(rows[1:2], kind)})
    assert [text.encode() in bytes(views) for text in texts] == [False, True, False]
    whole = pa.ipc.open_stream(encoder.encode_body(ResponseFormat.ARROW, "x", 0, 3)).read_all()
    assert (whole.schema.types, whole.to_pydict()) == ([plain], {"prediction": pa.array(rows, kind).to_pylist()})


@pytest.mark.parametrize("form", ResponseFormat)
def test_a_body_over_the_limit_is_the_handlers_error(form: ResponseFormat) -> None:
    """Escapes can make it longer than its values."""
    texts = pa.record_batch({"prediction": [str(number) + "\x01" * 1000 for number in range(1000)]})
    assert len(ReplyEncoder(texts, max_bytes=10_000_000).encode_long_body(form, "x", 0, 1000)) > 10_000
    with pytest.raises(BadResult, match="takes more than 10000 bytes; return less for each row, or raise response_max_bytes"):
        ReplyEncoder(texts, max_bytes=10_000).encode_long_body(form, "x", 0, 1000)


def test_json_has_the_id_and_the_rows_of_the_request() -> None:
    """Scalars are a list, frames are records; NaN is null."""
    assert ReplyEncoder(SCALARS).encode_body(ResponseFormat.JSON, "x", 1, 2) == b'{"id":"x","predictions":[2.5,3.5]}'
    assert msgspec.json.decode(ReplyEncoder(RECORDS).encode_body(ResponseFormat.JSON, "x", 0, 2))["predictions"] == [
        {"a": 1.0, "d": "2024-01-31", "l": [1]},
        {"a": None, "d": None, "l": []},
    ]


def test_ndjson_has_one_record_a_line() -> None:
    """Scalars are records of their one column."""
    assert ReplyEncoder(SCALARS).encode_body(ResponseFormat.NDJSON, "x", 1, 2) == b'{"prediction":2.5}\n{"prediction":3.5}\n'
    assert ReplyEncoder(RECORDS).encode_body(ResponseFormat.NDJSON, "x", 2, 1) == b'{"a":3.0,"d":null,"l":null}\n'


def test_csv_has_a_header() -> None:
    """Lists are JSON in their cell."""
    assert ReplyEncoder(RECORDS).encode_body(ResponseFormat.CSV, "x", 0, 2) == b"a,d,l\n1.0,2024-01-31,[1]\nNaN,,[]\n"


def test_parquet_and_arrow_hold_only_the_rows_of_the_request() -> None:
    """The rows keep their dtypes."""
    expected = pl.DataFrame(RECORDS)[1:3]
    assert pl.read_parquet(io.BytesIO(ReplyEncoder(RECORDS).encode_body(ResponseFormat.PARQUET, "x", 1, 2))).equals(expected)
    assert pl.DataFrame(pa.ipc.open_stream(ReplyEncoder(RECORDS).encode_body(ResponseFormat.ARROW, "x", 1, 2)).read_all()).equals(expected)


@pytest.mark.parametrize("form", ResponseFormat)
def test_a_reply_without_rows_is_valid(form: ResponseFormat) -> None:
    """In every format, with and without an output schema, it has no rows and the columns that are known."""
    for schema in (None, RECORDS.schema):
        body = ReplyEncoder.for_no_rows(schema).encode_body(form, "x", 0, 0)
        names = ["prediction"] if schema is None else schema.names
        match form:
            case ResponseFormat.JSON:
                assert msgspec.json.decode(body) == {"id": "x", "predictions": []}
            case ResponseFormat.NDJSON:
                assert body == b""
            case ResponseFormat.CSV:
                assert body.decode().strip().split(",") == names
            case ResponseFormat.PARQUET:
                found = pl.read_parquet(io.BytesIO(body))
                assert (found.height, found.columns) == (0, names)
            case ResponseFormat.ARROW:
                read = pa.ipc.open_stream(body).read_all()
                assert (read.num_rows, read.column_names) == (0, names)


@pytest.mark.parametrize("form", [ResponseFormat.NDJSON, ResponseFormat.CSV, ResponseFormat.PARQUET, ResponseFormat.JSON])
def test_a_slice_of_arrays_of_which_some_are_null_is_encoded(form: ResponseFormat) -> None:
    """Every format can encode the rows of one request of several."""
    frame = pl.DataFrame({"x": pl.Series([[1, 2], None, [3, None], None], dtype=pl.Array(pl.Int8, 2))})
    for start in range(4):
        for count in range(1, 5 - start):
            alone = ReplyEncoder(frames.batch(frame[start : start + count])).encode_body(form, "x", 0, count)
            assert ReplyEncoder(frames.batch(frame)).encode_body(form, "x", start, count) == alone


@pytest.mark.parametrize("form", ResponseFormat)
@pytest.mark.parametrize("values_at_a_time", [1, 6, 7, 10_000])
def test_a_long_reply_is_encoded_in_pieces_with_the_same_bytes(monkeypatch, form: ResponseFormat, values_at_a_time: int) -> None:
    """For each part of the rows, for records and for scalars."""
    monkeypatch.setattr(encoder_module, "_VALUES_AT_A_TIME", values_at_a_time)
    for batch in (RECORDS, frames.batch(pl.DataFrame({"prediction": [1.5, None, float("nan")]}))):
        for start, count in [(0, 3), (1, 2), (2, 1), (0, 0)]:
            whole = ReplyEncoder(batch).encode_body(form, 'an "id"', start, count)
            assert ReplyEncoder(batch).encode_long_body(form, 'an "id"', start, count) == whole


def test_arrays_of_which_some_are_null_are_encoded_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """In columns, lists and structs. Polars refuses children that are longer than their array, which the first of several slices has."""
    monkeypatch.setattr(encoder_module, "_VALUES_AT_A_TIME", 9)
    arrays = [[1.5, None], None, [3.0, 4.0], None, [5.0, 6.0], None, None, [7.0, 8.0]]
    pair = pa.list_(pa.float64(), 2)
    columns = {
        "a": pa.array(arrays, pair),
        "l": pa.array([[each, None] for each in arrays], pa.list_(pair)),
        "s": pa.array([{"v": each} for each in arrays], pa.struct([("v", pair)])),
    }
    batch, expected = pa.record_batch(columns), [{"a": each, "l": [each, None], "s": {"v": each}} for each in arrays]
    for start, count in [(0, 8), (0, 7), (3, 4)]:
        body = ReplyEncoder(batch).encode_long_body(ResponseFormat.JSON, "x", start, count)
        assert msgspec.json.decode(body)["predictions"] == expected[start : start + count]


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view(), pa.list_(pa.string_view()), pa.list_(pa.string())])
def test_texts_are_encoded_in_few_pieces(kind: pa.DataType) -> None:
    """Views of all rows share a buffer, whose size says nothing about a row."""
    texts = ["x" * 100] * 20_000
    batch = pa.record_batch({"t": pa.array([[each] for each in texts] if pa.types.is_list(kind) else texts, kind)})
    parts = list(encoder_module.divide_rows(batch))
    assert 15 <= len(parts) <= 40
    assert pa.Table.from_batches(parts).column("t").to_pylist() == batch.column("t").to_pylist()


def test_a_record_has_the_values_that_its_row_would_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lists are encoded in pieces."""
    monkeypatch.setattr(encoder_module, "_VALUES_AT_A_TIME", 4)
    table = [{"d": dt.date(2024, 1, day), "x": None if day == 3 else day / 2, "l": [day, None], "t": "\u00fc"} for day in range(1, 12)]
    fields = {
        "rows": table,
        "s": {"a": 1},
        "many": list(range(20)),
        "none": None,
        "empty": [],
        "x": float("nan"),
        "prediction": dt.date(2024, 2, 1),
    }
    for names in (list(fields), ["prediction"], ["rows"], ["empty", "none"]):
        batch = frames.batch(pl.DataFrame({name: [fields[name]] for name in names}))
        for encode in (ReplyEncoder.encode_body, ReplyEncoder.encode_long_body):
            record = ReplyEncoder(batch)
            record.is_record = True
            body = bytes(encode(record, ResponseFormat.JSON, "x", 0, 1))
            line = bytes(encode(record, ResponseFormat.NDJSON, "x", 0, 1))
            expected = bytes(ReplyEncoder(batch).encode_body(ResponseFormat.NDJSON, "x", 0, 1))
            assert line == expected
            assert body == b'{"id":"x","predictions":' + expected.rstrip() + b"}"
