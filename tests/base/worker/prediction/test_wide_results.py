"""Results of 128-bit integers, which are digits on the wire, and of 16-bit floats, which are half floats. No value changes."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from base.errors import BadResult
from base.schema import Schema
from base.worker.prediction.result import PREDICTION_COLUMN, result_to_batch

LEAST, UMOST = -(2**127), 2**128 - 1


class Signed(Schema):
    n: pl.Int128


class Unsigned(Schema):
    n: pl.UInt128 | None


class Half(Schema):
    h: pl.Float16


class Tags(Schema):
    tags: Annotated[list[int], pl.List(pl.UInt128)]


@pytest.mark.parametrize(
    "result",
    [
        pl.Series([LEAST, 5], dtype=pl.Int128),
        pl.DataFrame({PREDICTION_COLUMN: pl.Series([LEAST, 5], dtype=pl.Int128)}).lazy(),
        [LEAST, 5],
        (LEAST, 5),
        np.array([LEAST, 5]),
    ],
    ids=lambda result: type(result).__name__,
)
def test_wide_integers_are_digits_on_the_wire(result: object) -> None:
    """With and without a schema, as a series or as Python integers."""
    assert result_to_batch(result, 2).to_pydict() == {PREDICTION_COLUMN: [str(LEAST), "5"]}
    if not isinstance(result, pl.LazyFrame):
        batch = result_to_batch(result, 2, Signed)
        assert batch.schema == Signed.arrow_schema()
        assert Signed.frame(batch)["n"].to_list() == [LEAST, 5]


def test_integers_are_cast_to_the_dtype_of_the_schema() -> None:
    """Narrower ones widen; the schema decides the dtype of Python integers; nulls are kept if they are allowed."""
    assert result_to_batch(pl.Series([1, -2]), 2, Signed).to_pydict() == {"n": ["1", "-2"]}
    assert result_to_batch(pl.Series([1, 2**64 - 1], dtype=pl.UInt64), 2, Signed).to_pydict() == {"n": ["1", str(2**64 - 1)]}
    assert result_to_batch([2**70, None], 2, Unsigned).to_pydict() == {"n": [str(2**70), None]}
    assert result_to_batch([UMOST, 1], 2, Unsigned).to_pydict() == {"n": [str(UMOST), "1"]}
    assert result_to_batch([UMOST, 1], 2).to_pydict() == {PREDICTION_COLUMN: [str(UMOST), "1"]}


def test_wide_integers_inside_of_lists_are_digits_too() -> None:
    """With and without a schema."""
    frame = pl.DataFrame({"tags": [[UMOST, None], []]}, schema={"tags": pl.List(pl.UInt128)})
    for batch in (result_to_batch(frame, 2), result_to_batch(frame, 2, Tags)):
        assert batch.to_pydict() == {"tags": [[str(UMOST), None], []]}
    assert Tags.frame(result_to_batch(frame, 2, Tags)).equals(frame)


class Narrow(Schema):
    n: pl.Int64


@pytest.mark.parametrize(
    ("result", "schema"),
    [
        ([UMOST], Signed),
        ([LEAST], Unsigned),
        ([LEAST - 1], Signed),
        ([2**64], Narrow),
        (pl.Series([5], dtype=pl.Int128), Narrow),
        (pl.Series([5], dtype=pl.Int128), Unsigned),
        (pl.Series(["5"]), Signed),
        (pl.Series([5.0]), Signed),
        ([None], Signed),
        (pl.Series([2049]), Half),
        (pl.Series([65520]), Half),
        (pl.Series([1.0]), Half),
        (np.array([1.0], dtype=np.float32), Half),
        (pd.DataFrame({"n": [UMOST]}), Signed),
    ],
)
def test_values_that_do_not_fit_the_schema_are_refused(result: object, schema: type[Schema]) -> None:
    """By dtype if a cast could lose something, and by value for integers."""
    with pytest.raises(BadResult):
        result_to_batch(result, 1, schema)


@pytest.mark.parametrize(
    "result",
    [
        np.array([1.5, np.inf], dtype=np.float16),
        np.array([1.5, 0.0, np.inf, 0.0], dtype=np.float16)[::2],
        pl.Series([1.5, np.inf], dtype=pl.Float16),
        pa.array([1.5, np.inf], pa.float16()),
        pd.Series(np.array([1.5, np.inf], dtype=np.float16)),
    ],
    ids=lambda result: type(result).__name__,
)
def test_half_floats_cross_unchanged(result: Any) -> None:
    """With and without a schema; and they widen to any other float."""

    class Single(Schema):
        h: pl.Float32

    class Double(Schema):
        h: pl.Float64

    assert result_to_batch(result, 2).schema.types == [pa.float16()]
    for schema in (Half, Single, Double):
        assert result_to_batch(result, 2, schema).to_pydict() == {"h": [1.5, np.inf]}
        assert result_to_batch(result, 2, schema).schema == schema.arrow_schema()


def test_integers_that_fit_become_half_floats() -> None:
    """The value decides, not the dtype."""
    assert result_to_batch(pl.Series([2048, 65504]), 2, Half).to_pydict() == {"h": [2048.0, 65504.0]}
