"""Whether two answers to the same request are the same, and by how much their numbers differ. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.types as pt


class ResponseDiff(NamedTuple):
    """Of two answers.

    Attributes:
        equal: columns, dtypes, and all values, of which NaN is equal to NaN.
        deviation: the largest difference between two finite numbers at the same place; 0 where there are none to compare.
    """

    equal: bool
    deviation: float


def compare_responses(one: pa.RecordBatch, other: pa.RecordBatch) -> ResponseDiff:
    """Two answers. Those of other columns, dtypes or numbers of rows have no places to compare."""
    if not one.schema.equals(other.schema) or one.num_rows != other.num_rows:
        return ResponseDiff(equal=False, deviation=0.0)
    found = [_column(*each) for each in zip(one.columns, other.columns, strict=True)]
    return ResponseDiff(all(each.equal for each in found), max((each.deviation for each in found), default=0.0))


def _column(one: pa.Array[Any], other: pa.Array[Any]) -> ResponseDiff:
    if pt.is_integer(one.type) or pt.is_floating(one.type):
        return _numbers(_floats(one), _floats(other), same=_series(one).equals(_series(other)))
    return ResponseDiff(_series(one).equals(_series(other)), 0.0)


def _numbers(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], *, same: bool) -> ResponseDiff:
    with np.errstate(all="ignore"):  # infinities
        apart = np.abs(one - other)
    return ResponseDiff(same, float(np.max(apart, where=np.isfinite(apart), initial=0.0)))


def _floats(column: pa.Array[Any]) -> np.ndarray[Any, Any]:
    """As doubles, with NaN for null."""
    return _series(column).cast(pl.Float64).fill_null(float("nan")).to_numpy()


def _series(column: pa.Array[Any]) -> pl.Series:
    found = pl.from_arrow(column)
    assert isinstance(found, pl.Series)
    return found
