"""Rows of floats become columns in one pass."""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from base.ipc.numeric_frames import NumericBatch
from base.schema import wire
from base.schema.wire import Column
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.json_columns import MIN_ROWS, JsonColumns

COLUMNS = {"a": Column(pl.Float64(), False), "a long name " * 20: Column(pl.Float32(), True), "é": Column(pl.Float64(), False)}
SCHEMA = wire.columns_to_arrow(COLUMNS)
FLOATS = st.floats(allow_nan=False, allow_infinity=False, min_value=-(2**20), max_value=2**20)


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(st.tuples(FLOATS, FLOATS, st.integers(-(2**20), 2**20)), min_size=MIN_ROWS, max_size=150), st.booleans())
def test_columns_equal_the_rows_decoded_one_by_one(values: list[tuple[float, float, int]], lines: bool) -> None:
    """This holds for any position, for integers among floats, and for 32 beside 64 bits."""
    rows = [msgspec.json.encode(dict(zip(COLUMNS, row, strict=True))) for row in values]
    decoder = RowDecoder(SCHEMA)
    many = decoder.from_ndjson(b"\n".join(rows)) if lines else decoder.from_json(b"[" + b",".join(rows) + b"]")
    assert isinstance(many.records, NumericBatch)
    one_by_one = decoder.batches.build_record_batch([decoder.from_json(row) for row in rows])
    assert decoder.batches.build_record_batch([many]).equals(one_by_one)


@pytest.mark.parametrize("rows", [MIN_ROWS, 1024, 1025, 70_000])
def test_any_number_of_rows_is_counted_correctly(rows: int) -> None:
    """MessagePack writes the number in one, three or five bytes."""
    body = msgspec.json.encode([dict.fromkeys(COLUMNS, float(i)) for i in range(rows)])
    decoder = RowDecoder(SCHEMA)
    found = decoder.from_json(body)
    assert found.count == rows
    assert decoder.batches.build_record_batch([found]).column(0).to_pylist() == [float(i) for i in range(rows)]


def test_a_null_is_kept() -> None:
    """A row with a null is shorter than others, so the columns are made in the other way."""
    name = list(COLUMNS)[1]
    rows = [dict.fromkeys(COLUMNS, 1.0) for _ in range(MIN_ROWS)]
    body = msgspec.json.encode([*rows[1:], {**rows[0], name: None}])
    assert RowDecoder(SCHEMA).batches.build_record_batch([RowDecoder(SCHEMA).from_json(body)]).column(1).to_pylist() == [1.0] * (
        MIN_ROWS - 1
    ) + [None]


@pytest.mark.parametrize("kind", [pa.int64(), pa.string_view(), pa.bool_(), pa.float16()])
def test_other_types_are_not_converted_this_way(kind: pa.DataType) -> None:
    """Their values have no fixed length in MessagePack, or are not Python floats."""
    row = msgspec.defstruct("Row", [("f0", float)])
    assert JsonColumns.for_schema(row, pa.schema([("f0", kind)])) is None


def test_requests_of_many_and_of_few_rows_share_a_batch() -> None:
    """Each may come in its own form; their order is kept."""
    decoder = RowDecoder(SCHEMA)
    bodies = [msgspec.json.encode([dict.fromkeys(COLUMNS, float(n))] * n) for n in (1, MIN_ROWS, 2, 40)]
    gathered = decoder.batches.build_batch([decoder.from_json(body) for body in bodies])
    assert isinstance(gathered, NumericBatch)
    assert np.asarray(gathered.columns[1]).tolist() == [float(n) for n in (1, MIN_ROWS, 2, 40) for _ in range(n)]
