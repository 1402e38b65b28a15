"""The comparison of two responses, and the deviation of their numbers."""

import math

import polars as pl
import pyarrow as pa
import pytest

from runtime.front.routing.response_diff import ResponseDiff, compare_responses

NAN, INF = math.nan, math.inf


def batch(**columns):
    return pl.DataFrame(columns).to_arrow().combine_chunks().to_batches()[0]


@pytest.mark.parametrize(
    ("one", "other", "equal", "deviation"),
    [
        ([1.0, 2.0], [1.0, 2.0], True, 0.0),
        ([1.0, 2.0], [1.0, 2.5], False, 0.5),
        ([1.0, NAN], [1.0, NAN], True, 0.0),
        ([1.0, NAN], [1.25, 2.0], False, 0.25),
        ([1.0, None], [1.0, None], True, 0.0),
        ([1.0, None], [1.0, 7.0], False, 0.0),
        ([INF, -INF], [INF, -INF], True, 0.0),
        ([INF, 1.0], [-INF, 3.0], False, 2.0),
        ([3, 4], [3, 9], False, 5.0),
        ([2**63, 1], [2**63, 1], True, 0.0),
        ([True, False], [True, False], True, 0.0),
        (["a", None], ["a", None], True, 0.0),
        (["a"], ["b"], False, 0.0),
        ([[1.0, NAN]], [[1.0, NAN]], True, 0.0),
        ([[1.0, 2.0]], [[1.0, 3.0]], False, 0.0),
        ([{"x": 1}], [{"x": 2}], False, 0.0),
    ],
)
def test_values_are_compared_by_dtype(one, other, equal, deviation):
    """NaN equals NaN and null equals null; only finite numbers deviate."""
    assert compare_responses(batch(a=one), batch(a=other)) == ResponseDiff(equal, deviation)


@pytest.mark.parametrize(
    "other", [batch(b=[1.0]), batch(a=[1]), batch(a=[1.0, 2.0]), batch(a=[1.0], b=[1.0]), batch(a=pl.Series([1.0], dtype=pl.Float32))]
)
def test_responses_with_other_columns_dtypes_or_rows_differ(other):
    assert compare_responses(batch(a=[1.0]), other) == ResponseDiff(equal=False, deviation=0.0)


def test_the_deviation_is_the_largest_of_all_columns():
    assert compare_responses(batch(a=[1.0], b=[5], c=["x"]), batch(a=[1.5], b=[8], c=["x"])) == ResponseDiff(equal=False, deviation=3.0)


def test_responses_without_rows_or_columns_are_equal():
    none = batch(a=[1.0]).slice(0, 0)
    assert compare_responses(none, none) == ResponseDiff(equal=True, deviation=0.0)
    empty = pa.RecordBatch.from_pylist([], schema=pa.schema([]))
    assert compare_responses(empty, empty) == ResponseDiff(equal=True, deviation=0.0)
