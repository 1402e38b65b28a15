"""The short way for numbers, compared with the ordinary way."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from base.errors import BadResult
from base.ipc.numeric_frames import NumericFormat
from base.schema import Schema
from base.worker.prediction import numeric_io
from base.worker.prediction.numeric_io import NumericInput, NumericOutput
from base.worker.prediction.result import result_to_batch


class All(Schema):
    a: pl.Int8
    b: pl.Int16
    c: pl.Int32
    d: pl.Int64
    e: pl.UInt8
    f: pl.UInt16
    g: pl.UInt32
    h: pl.UInt64
    i: pl.Float32
    j: pl.Float64 | None


class One(Schema):
    length: pl.Float64


class Text(Schema):
    a: pl.Float64
    b: pl.String


DTYPES = {name: column.dtype for name, column in All.columns().items()}


def format_of(schema: type[Schema]) -> NumericFormat:
    numeric_format = NumericFormat.for_schema(schema.arrow_schema())
    assert numeric_format is not None
    return numeric_format


@st.composite
def frames(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.integers(1, 5))
    columns = {name: np.dtype(f"{str(dtype)[0].lower()}{int(str(dtype).strip('UIntFloa')) // 8}") for name, dtype in DTYPES.items()}
    drawn = {
        name: np.frombuffer(draw(st.binary(min_size=size, max_size=size)), kind)
        for name, kind in columns.items()
        for size in [rows * kind.itemsize]
    }
    return pl.DataFrame(drawn)


@settings(deadline=None)
@given(frame=frames())
def test_a_frame_survives_both_conversions(frame: pl.DataFrame) -> None:
    """In every dtype of numbers, as Arrow converts it, and as Polars' public constructors make it."""
    assert frame.schema == All.polars_schema()
    plain = NumericOutput(All).to_numeric_batch(frame, frame.height)
    assert plain is not None
    assert plain.to_record_batch().schema.equals(All.arrow_schema())
    found = NumericInput(All).to_polars(plain)
    assert found.schema == All.frame(plain.to_record_batch()).schema
    assert_frame_equal(found, All.frame(plain.to_record_batch()))
    assert_frame_equal(found, frame)
    assert_frame_equal(NumericInput(None).to_polars(plain), frame)
    assert_frame_equal(numeric_io._make_frame(frame.columns, plain.columns), frame)


RESULTS: list[Any] = [
    np.array([1.0, 2.0]),
    np.array([0.0, 1.0, 0.0, 2.0])[1::2],
    np.array([1.0, 2.0], dtype=">f8"),
    np.array([1.0, 2.0], dtype="f4"),
    np.array([1, 2]),
    np.array([[1.0], [2.0]]),
    np.ma.array([1.0, 2.0], mask=[False, True]),
    np.ma.array([1.0, 2.0]),
    np.array([True, False]),
    [1.0, 2.0],
    pl.Series([1.0, 2.0]),
    pl.Series([1.0, None]),
    pl.Series([1, 2]),
    pl.concat([pl.Series([1.0]), pl.Series([2.0])], rechunk=False),
    pl.DataFrame({"length": [1.0, 2.0]}),
    pl.DataFrame({"length": [1.0, None]}),
    pl.DataFrame({"width": [1.0, 2.0]}),
    pl.DataFrame({"length": [1.0, 2.0], "width": [1.0, 2.0]}),
    pl.concat([pl.DataFrame({"length": [1.0]}), pl.DataFrame({"length": [2.0]})], rechunk=False),
    pl.LazyFrame({"length": [1.0, 2.0]}),
    np.array([1.0]),
    np.array([1.0, 2.0, 3.0]),
    np.float64(1.0),
    None,
    "text",
    np.array([1.0, 2.0], dtype=np.float16),
    np.array([1.0, 2.0], dtype=">f2"),
    pl.Series([1.0, 2.0], dtype=pl.Float16),
    pl.Series([1, 2**70], dtype=pl.Int128),
    pl.DataFrame({"length": pl.Series([1, 2], dtype=pl.UInt128)}),
    pl.DataFrame({"length": [1.0, 2.0], "width": pl.Series([1, 2], dtype=pl.Int128)}),
    [1, 2**70],
]


@pytest.mark.parametrize("schema", [One, All, Text, None])
@pytest.mark.parametrize(
    "result", RESULTS, ids=lambda result: f"{type(result).__name__} {re.sub(' at 0x.*', '', repr(result), flags=re.DOTALL):.20}"
)
def test_the_short_way_changes_no_answer(result: object, schema: type[Schema] | None) -> None:
    """It gives what the ordinary way gives, and takes nothing that the ordinary way refuses, whether the format was learned or not."""
    results = NumericOutput(schema)
    for plain in (results.to_numeric_batch(result, 2), results.to_numeric_batch(result, 2)):
        try:
            ordinary = result_to_batch(result, 2, schema)
        except BadResult:
            assert plain is None
            continue
        if plain is not None:
            assert plain.to_record_batch().equals(ordinary)
            assert plain.to_record_batch().schema.equals(ordinary.schema)


@pytest.mark.parametrize("result", [*RESULTS[:2], RESULTS[10], RESULTS[13], RESULTS[14], RESULTS[18]])
def test_what_most_models_return_goes_the_short_way(result: object) -> None:
    """An array, a series and a frame, whole or in chunks."""
    assert NumericOutput(One).to_numeric_batch(result, 2) is not None
    assert NumericOutput(None).to_numeric_batch(result, 2) is not None


def test_columns_in_another_order_go_the_ordinary_way() -> None:
    """The ordinary way puts them in order."""

    class Two(Schema):
        a: pl.Float64
        b: pl.Float64

    assert NumericOutput(Two).to_numeric_batch(pl.DataFrame({"b": [1.0], "a": [2.0]}), 1) is None


def test_a_result_without_a_schema_keeps_its_columns() -> None:
    """Names and order are kept, even if the batch before had other columns."""
    results = NumericOutput(None)
    for frame in (pl.DataFrame({"b": [1.0], "a": [2]}), pl.DataFrame({"a": [2], "b": [1.0]}), pl.DataFrame({"b": [1], "a": [2]})):
        plain = results.to_numeric_batch(frame, 1)
        assert plain is not None
        assert plain.to_record_batch().schema.equals(result_to_batch(frame, 1).schema)
        assert plain.to_record_batch().equals(result_to_batch(frame, 1))


def test_texts_always_take_the_ordinary_way() -> None:
    """Neither schemas nor results with texts have a short way."""
    results = NumericOutput(None)
    for _ in range(2):
        assert results.to_numeric_batch(pl.DataFrame({"a": ["x"], "b": [1.0]}), 1) is None
        assert results.to_numeric_batch(pl.Series(["x"]), 1) is None
        assert results.to_numeric_batch(np.array(["x"]), 1) is None


def test_the_number_of_learned_formats_is_limited() -> None:
    """A handler whose column names depend on the request does not fill the memory."""
    results = NumericOutput(None)
    for number in range(200):
        assert results.to_numeric_batch(pl.DataFrame({f"column {number}": [1.0]}), 1) is not None
    assert len(results._formats) == 64


def test_private_constructors_of_polars_are_tried_before_they_are_used() -> None:
    """This version has them; if they made anything else, public ones would be used."""
    assert numeric_io.frame_maker(list(DTYPES), format_of(All)) is not numeric_io._make_frame
    strange = format_of(All)
    strange.dtypes = (*strange.dtypes[:-1], np.dtype("S3"))  # there is no constructor of that name
    assert numeric_io.frame_maker(list(DTYPES), strange) is numeric_io._make_frame
