"""What the document says of rows is what the decoder takes and what answers hold."""

from __future__ import annotations

import json

import msgspec
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import frames
import openapi_docs
from base.errors import Misfit
from base.ipc.release_spec import Example
from base.schema import dtypes
from base.schema.wire import Column, columns_to_arrow
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat

NESTED = [pl.List(pl.Int8()), pl.Array(pl.Boolean(), 2), pl.Struct({"x": pl.Int8(), "kind": pl.Enum(["low"])})]
ALL = [*frames.LEAVES, *NESTED]

NUMBERS = [
    0,
    1.0,
    1.5,
    -1,
    1e300,
    *(sign * 2**bits + more for bits in (7, 8, 15, 16, 31, 32, 63, 64) for sign in (1, -1) for more in (-1, 0)),
]
DATES = ["2024-01-31", "2024-1-31", "2024-01-31T12:30:00", "2024-01-31T12:30:00Z", "2024-01-31T12:30:00+02:00", "2024-01-31T12:30"]
TIMES = ["12:30:00", "12:30:00.5", "12:30", "12:30:00.", "PT1H", "P1D", "P", "PT", "P1DT", "P1W", "-PT0.5S", "P1DT1H1M1.5S", "PT1.5H"]
NESTS = [[], [1], [None, -128], [1, 1.5], [300], [True, False], [True], [True, None, False], {}, {"x": 1}, {"x": 1, "kind": "low"}]
MORE = [{"x": 1, "kind": "high"}, {"x": None, "kind": None, "other": 1}, {"x": "1", "kind": "low"}]
VALUES = [None, True, False, "", "low", "medium", "aGk=", *NUMBERS, *DATES, *TIMES, *NESTS, *MORE]
JSON = st.recursive(st.sampled_from(VALUES) | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))

STRICTER = (pl.Int128, pl.UInt128, pl.Float16, pl.Float32, pl.Float64, pl.Binary, pl.Datetime, pl.Decimal)
"""Of which JSON Schema knows less than the decoder: which integers a float holds, base64, how fine a unit is, how many digits there are,
how large an integer its digits say."""


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(drawn=frames.admitted())
def test_rows_that_a_schema_admits_fit_the_document(drawn: tuple[dict[str, Column], pl.DataFrame]) -> None:
    """Rows of any schema: as an array of objects, as one object, and as an array of strings; asked and answered."""
    columns, frame = drawn
    found = openapi_docs.document(openapi_docs.spec_of(columns))
    body = frames.BODIES["application/json"](frame)
    rows = json.loads(body)
    assert openapi_docs.errors(found, openapi_docs.request_schema(found), rows) == []
    assert openapi_docs.errors(found, openapi_docs.response_schema(found), {"id": "x", "predictions": rows}) == []
    for row in rows:
        assert openapi_docs.errors(found, openapi_docs.request_schema(found), row) == []
        assert openapi_docs.errors(found, openapi_docs.request_schema(found), [json.dumps(row)]) == []


@pytest.mark.parametrize("nullable", [True, False])
@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_the_document_and_the_decoder_agree_on_any_value(dtype: pl.DataType, nullable: bool) -> None:
    """What the decoder takes fits the document, and what fits is taken, as far as JSON Schema can say it."""
    columns = {"it": Column(dtype, nullable)}
    found, decoder = openapi_docs.document(openapi_docs.spec_of(columns)), RowDecoder(columns_to_arrow(columns))
    validator = openapi_docs.validator(found, openapi_docs.row(found))
    stricter = any(isinstance(each, STRICTER) for each in [dtype, *inner(dtype)])

    def agree(value: object) -> None:
        fits = validator.is_valid({"it": value})
        taken = takes(decoder, [{"it": value}])
        assert fits or not taken, value
        assert taken or not fits or stricter, value

    for each in VALUES:
        agree(each)
    settings(deadline=None, max_examples=20)(given(JSON)(agree))()


def takes(decoder: RowDecoder, rows: list[dict[str, object]]) -> bool:
    try:
        decoder.from_json(json.dumps(rows).encode())
    except Misfit:
        return False
    return True


def inner(dtype: pl.DataType) -> list[pl.DataType]:
    match dtype:
        case pl.List() | pl.Array():
            return [dtypes.as_instance(dtype.inner)]
        case pl.Struct():
            return [dtypes.as_instance(field.dtype) for field in dtype.fields]
    return []


@pytest.mark.parametrize("dtype", ALL, ids=str)
def test_the_example_that_people_are_shown_fits(dtype: pl.DataType) -> None:
    """As it stands in the document, after its way from the worker."""
    example = msgspec.json.decode(msgspec.json.encode(Example({}, [{"it": dtypes.example_value(dtype)}])), type=Example)
    said = openapi_docs.spec_of({"it": Column(dtype, nullable=False)}, example=example)
    found = openapi_docs.document(said)
    shown = openapi_docs.operation(found)["requestBody"]["content"]["application/json"]
    assert openapi_docs.errors(found, shown["schema"], shown["example"]) == []


def test_fields_with_a_default_may_be_left_out_and_show_it() -> None:
    """As may those that can be null; a default that JSON has no word for is not shown."""
    columns = {
        "a": Column(pl.Float64(), nullable=False, default=pl.Series([1.5])),
        "b": Column(pl.Date(), nullable=False, default=pl.Series(["2024-01-31"]).str.to_date()),
        "c": Column(pl.Float64(), nullable=False, default=pl.Series([float("nan")])),
        "d": Column(pl.Int8(), nullable=True),
        "e": Column(pl.Int8(), nullable=False),
    }
    found = openapi_docs.document(openapi_docs.spec_of(columns))
    row = openapi_docs.row(found)
    assert row["required"] == ["e"]
    assert {name: each["default"] for name, each in row["properties"].items() if "default" in each} == {"a": 1.5, "b": "2024-01-31"}
    assert takes(RowDecoder(columns_to_arrow(columns)), [{"e": 1}])
    assert openapi_docs.response_schema(found)["properties"]["predictions"]["items"]["required"] == list(columns)


@pytest.mark.parametrize("unexpected", ["ignore", "reject"])
def test_fields_that_are_not_expected_are_refused_where_they_are(unexpected: str) -> None:
    """The document says so, and the decoder does."""
    columns = {"a": Column(pl.Int8(), nullable=False)}
    found = openapi_docs.document(openapi_docs.spec_of(columns, unexpected=unexpected))
    fits = openapi_docs.errors(found, openapi_docs.row(found), {"a": 1, "b": 2}) == []
    assert fits == takes(RowDecoder(columns_to_arrow(columns), unexpected), [{"a": 1, "b": 2}]) == (unexpected == "ignore")


def test_floats_of_answers_may_be_null() -> None:
    """JSON has no word for NaN, whatever the column says of nulls."""
    columns = {"prediction": Column(pl.Float64(), nullable=False)}
    found = openapi_docs.document(openapi_docs.spec_of(columns))
    answer = json.loads(
        ReplyEncoder(frames.batch(pl.DataFrame({"prediction": [1.0, float("nan")]}))).encode_body(ResponseFormat.JSON, "id", 0, 2)
    )
    assert answer["predictions"] == [1.0, None]
    assert openapi_docs.errors(found, openapi_docs.response_schema(found), answer) == []
    assert openapi_docs.errors(found, openapi_docs.request_schema(found), [{"prediction": None}]) != []
