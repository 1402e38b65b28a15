"""Compares two responses to the same request, and the differences of their numbers. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.types as pt


class ResponseDiff(NamedTuple):
    """The result of a comparison.

    Attributes:
        equal: Whether columns, dtypes and all values are equal; NaN equals NaN.
        deviation: The largest difference between two finite numbers at the same place; 0 if there are none.
    """

    equal: bool
    deviation: float


def compare_responses(one: pa.RecordBatch, other: pa.RecordBatch) -> ResponseDiff:
    """Compares two responses. The deviation is 0 if their columns, dtypes or row counts differ."""
    if not one.schema.equals(other.schema) or one.num_rows != other.num_rows:
        return ResponseDiff(equal=False, deviation=0.0)
    diffs = [_compare_columns(*each) for each in zip(one.columns, other.columns, strict=True)]
    return ResponseDiff(all(each.equal for each in diffs), max((each.deviation for each in diffs), default=0.0))


def _compare_columns(one: pa.Array[Any], other: pa.Array[Any]) -> ResponseDiff:
    equal = _series(one).equals(_series(other))
    if pt.is_integer(one.type) or pt.is_floating(one.type):
        with np.errstate(all="ignore"):  # infinities
            differences = np.abs(_floats(one) - _floats(other))
        return ResponseDiff(equal, float(np.max(differences, where=np.isfinite(differences), initial=0.0)))
    return ResponseDiff(equal, 0.0)


def _floats(column: pa.Array[Any]) -> np.ndarray[Any, Any]:
    """Returns the column as doubles, with NaN for null."""
    return _series(column).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _series(column: pa.Array[Any]) -> pl.Series:
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return series
