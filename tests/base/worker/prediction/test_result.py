"""Results of handlers as record batches."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import BadResult
from base.schema import Schema
from base.worker.prediction.result import PREDICTION_COLUMN, result_to_batch


class One(Schema):
    length: pl.Float64


class Two(Schema):
    a: pl.Float64
    b: pl.String | None


class Small(Schema):
    a: pl.Int16


@pytest.mark.parametrize(
    "result",
    [
        [1.0, 2.0],
        (1.0, 2.0),
        np.array([1.0, 2.0]),
        np.array([0.0, 1.0, 0.0, 2.0])[1::2],
        pl.Series("named", [1.0, 2.0]),
        pd.Series([1.0, 2.0], index=[7, 9]),
        pa.array([1.0, 2.0]),
        pa.chunked_array([[1.0], [2.0]]),
        pl.DataFrame({PREDICTION_COLUMN: [1.0, 2.0]}),
        [1, 2.0],
        [np.float64(1), np.float64(2)],
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_column_without_a_name_is_scalars(result: object) -> None:
    """One column called "prediction", whatever the container, or the only column of the schema."""
    assert result_to_batch(result, 2).to_pydict() == {PREDICTION_COLUMN: [1.0, 2.0]}
    if not isinstance(result, pl.DataFrame):
        assert result_to_batch(result, 2, One).to_pydict() == {"length": [1.0, 2.0]}


@pytest.mark.parametrize(
    "result",
    [
        pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}),
        pl.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}).lazy(),
        pa.table({"a": [1.0, 2.0], "b": ["x", None]}),
        pa.record_batch({"a": [1.0, 2.0], "b": ["x", None]}),
        pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]}),
        pl.concat(
            [pl.DataFrame({"a": [1.0], "b": ["x"]}), pl.DataFrame({"a": [2.0], "b": [None]}, schema={"a": pl.Float64, "b": pl.String})]
        ),
    ],
    ids=lambda result: type(result).__name__,
)
def test_a_frame_keeps_its_columns_in_one_batch(result: object) -> None:
    """With and without a schema, and strings become views."""
    for schema in (None, Two):
        batch = result_to_batch(result, 2, schema)
        assert batch.to_pydict() == {"a": [1.0, 2.0], "b": ["x", None]}
        assert batch.schema.field("b").type == pa.string_view()


def test_arrays_of_more_dimensions_become_lists_of_fixed_size() -> None:
    """The first index is the row."""
    flat = result_to_batch(np.arange(6).reshape(2, 3), 2)
    assert flat.schema.field(PREDICTION_COLUMN).type == pa.list_(pa.int64(), 3)
    assert flat.to_pydict() == {PREDICTION_COLUMN: [[0, 1, 2], [3, 4, 5]]}
    assert result_to_batch(np.arange(8).reshape(2, 2, 2), 2).to_pydict() == {PREDICTION_COLUMN: [[[0, 1], [2, 3]], [[4, 5], [6, 7]]]}
    assert result_to_batch(np.arange(6).reshape(3, 2).T, 2).to_pydict() == {PREDICTION_COLUMN: [[0, 2, 4], [1, 3, 5]]}


def test_numbers_of_a_numpy_array_are_not_copied() -> None:
    """The batch refers to the array's own memory."""
    array = np.arange(1000.0)
    assert result_to_batch(array, 1000).column(0).buffers()[1].address == array.ctypes.data


def test_columns_of_a_frame_are_not_copied() -> None:
    """The batch refers to the memory of the frame."""
    series = pl.Series("a", np.arange(1000.0))
    address = series.to_arrow().buffers()[1].address
    assert result_to_batch(pl.DataFrame([series]), 1000).column(0).buffers()[1].address == address


@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-1000, 1000)), min_size=1))
def test_positions_are_kept(values: list[Any]) -> None:
    """The answer for each row is at the row's position."""
    assert result_to_batch(values, len(values)).column(0).to_pylist() == values


@pytest.mark.parametrize("result", [[1.0], [1.0, 2.0, 3.0], [], pl.DataFrame({"a": [1]}), np.zeros((3, 2)), pa.array([1])], ids=str)
def test_a_wrong_number_of_rows_is_refused(result: object) -> None:
    """A result is never padded, cut or guessed."""
    with pytest.raises(BadResult, match=r"was given 2 rows and returned \d"):
        result_to_batch(result, 2)


@pytest.mark.parametrize(
    ("result", "reason"),
    [
        (None, "returned a NoneType"),
        (1.0, "returned a float"),
        (np.float64(1), "numpy float64"),
        (np.array(1.0), "a single number"),
        ({"a": [1, 2]}, "returned a dict"),
        ("ab", "returned a str"),
        ([1, "a"], "of no one type"),
        ([object(), object()], "of no one type"),
        (np.array([object(), 1]), "of no one type"),
        (np.zeros((2, 0)), "rows are empty"),
        (pl.DataFrame(), "without columns"),
        (pl.DataFrame({"o": [object(), object()]}), "column 'o' is Object"),
        ([2**128, 1], "integers of more than 64 bits"),
        ([2**70, "a"], "of no one type"),
        ([True, 2**70], "of no one type"),
        (np.array([[2**128], [1]]), "of no one type"),
        (pl.DataFrame({"o": pl.Series([0, 10**7], dtype=pl.Int32).cast(pl.Date)}), "column 'o' has a point in time in row 1"),
        (pl.DataFrame({"o": pl.Series([[0], [2**60]]).cast(pl.List(pl.Datetime("ms")))}), "column 'o' has a point in time in row 1"),
        (pd.DataFrame({"a": [1, "a"]}), "pandas DataFrame that no frame can hold"),
        (pl.LazyFrame({"a": [1, 2]}).select("missing"), "cannot be collected"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_result_that_cannot_be_rows_is_refused(result: object, reason: str) -> None:
    """The message names its type or its fault, so that the author finds it."""
    with pytest.raises(BadResult) as refused:
        result_to_batch(result, 2)
    assert reason in str(refused.value)


def test_categories_become_strings() -> None:
    """A record batch does not carry the dictionary of categories."""
    frame = pl.DataFrame({"c": pl.Series(["x", "y"], dtype=pl.Categorical), "e": pl.Series(["x", "y"], dtype=pl.Enum(["x", "y"]))})
    assert result_to_batch(frame, 2).schema.types == [pa.string_view(), pa.string_view()]
    inside = pl.DataFrame({"o": pl.Series([["a"], ["b"]], dtype=pl.List(pl.Categorical))})
    assert result_to_batch(inside, 2).to_pydict() == {"o": [["a"], ["b"]]}


class Rich(Schema):
    level: Annotated[str, pl.Enum(["low", "high"])]
    tensor: Annotated[list[float], pl.Array(pl.Float64, 2)]
    price: Annotated[Decimal, pl.Decimal(10, 2)]
    since: Annotated[dt.timedelta, pl.Duration("ms")]


RICH = {"level": ["low"], "tensor": [[1.0, 2.0]], "price": [Decimal("1.5")], "since": [dt.timedelta(seconds=1)]}


def test_dtypes_of_python_values_are_cast_to_richer_dtypes() -> None:
    """Strings to an enum, lists to an array, decimals and durations to another unit, since nothing is lost."""
    assert result_to_batch(pl.DataFrame(RICH), 1, Rich).to_pylist() == [
        {"level": "low", "tensor": [1.0, 2.0], "price": Decimal("1.50"), "since": dt.timedelta(seconds=1)}
    ]


@pytest.mark.parametrize(
    "wrong",
    [{"level": ["middle"]}, {"tensor": [[1.0]]}, {"price": [Decimal("1.555")]}, {"since": [dt.timedelta(microseconds=1)]}],
    ids=str,
)
def test_values_that_do_not_fit_richer_dtypes_are_refused(wrong: dict[str, Any]) -> None:
    """A string that is no member of the enum, a list of another size, values finer than the unit."""
    with pytest.raises(BadResult, match="the cast could lose something"):
        result_to_batch(pl.DataFrame(RICH | wrong), 1, Rich)


def test_a_schema_orders_the_columns() -> None:
    """The front door identifies columns by position."""
    batch = result_to_batch(pl.DataFrame({"b": ["x"], "a": [1.0]}), 1, Two)
    assert batch.schema == Two.arrow_schema()


def test_a_result_of_zero_rows_has_the_schema() -> None:
    """Zero rows in give zero rows out, with the right types."""
    assert result_to_batch(pl.DataFrame(schema=Two.polars_schema()), 0, Two).schema == Two.arrow_schema()
    assert result_to_batch([], 0, One).schema == One.arrow_schema()
    assert result_to_batch(pl.DataFrame(schema={"x": pl.String}), 0).num_rows == 0


@pytest.mark.parametrize(
    "column",
    [
        pl.Series([1, 2], dtype=pl.Int64),
        pl.Series([1, 2], dtype=pl.UInt8),
        pl.Series([2**53, -(2**53)], dtype=pl.Int64),
        pl.Series([1.5, 2.5], dtype=pl.Float32),
    ],
    ids=str,
)
def test_casts_that_lose_nothing_are_made(column: pl.Series) -> None:
    """Integers and narrow floats become wide floats."""
    assert result_to_batch(column, 2, One).column(0).to_pylist() == column.to_list()


@pytest.mark.parametrize(
    ("column", "schema"),
    [
        (pl.Series([2**53 + 1], dtype=pl.Int64), One),
        (pl.Series([2**63 - 1], dtype=pl.Int64), One),
        (pl.Series([2**64 - 1], dtype=pl.UInt64), One),
        (pl.Series(["1.0"]), One),
        (pl.Series([True]), One),
        (pl.Series([dt.date(2024, 1, 1)]), One),
        (pl.Series([1], dtype=pl.Int32), Small),
        (pl.Series([1], dtype=pl.UInt16), Small),
        (pl.Series([1.0]), Small),
    ],
    ids=str,
)
def test_casts_that_could_lose_something_are_refused(column: pl.Series, schema: type[Schema]) -> None:
    """The author must cast, and knows what is lost."""
    with pytest.raises(BadResult, match="the cast could lose something"):
        result_to_batch(column, 1, schema)


def test_narrow_integers_become_wider_ones() -> None:
    """If every value of the dtype fits."""
    for dtype in (pl.Int8, pl.UInt8):
        assert result_to_batch(pl.Series([1], dtype=dtype), 1, Small).schema.types == [pa.int16()]


def test_missing_and_undeclared_columns_are_named() -> None:
    """The message has both."""
    with pytest.raises(BadResult, match=r"missing: \['b'\]; not declared: \['c'\]"):
        result_to_batch(pl.DataFrame({"a": [1.0], "c": ["x"]}), 1, Two)


@pytest.mark.parametrize("result", [pl.DataFrame({"length": [1.0, None]}), np.array([1.0, None]), [1.0, None], [None, None]], ids=str)
def test_nulls_are_refused_if_the_schema_forbids_them(result: object) -> None:
    """The message has the row of the first one. NaN is a number and is kept."""
    with pytest.raises(BadResult, match=r"column 'length' is null in row \d"):
        result_to_batch(result, 2, One)
    assert result_to_batch(np.array([1.0, np.nan]), 2, One).column(0).null_count == 0
    assert result_to_batch(pd.Series([1.0, np.nan]), 2, One).column(0).null_count == 0


HALF_PAST_SIX = dt.datetime(2024, 1, 2, 12, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30)))
INSTANT = dt.datetime(2024, 1, 2, 6, 30, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    "result",
    [
        [HALF_PAST_SIX],
        pa.array([INSTANT], pa.timestamp("us", "+05:30")),
        pa.table({PREDICTION_COLUMN: pa.array([INSTANT], pa.timestamp("ns", "+05:30"))}),
        pa.table({PREDICTION_COLUMN: pa.array([INSTANT], pa.timestamp("s", "Z"))}),
        pd.DataFrame({PREDICTION_COLUMN: pd.to_datetime(["2024-01-02T12:00:00+05:30"])}),
        pd.Series(pd.to_datetime(["2024-01-02T12:00:00+05:30"])),
        pd.Series([HALF_PAST_SIX], dtype=object),
    ],
    ids=["list", "array", "table", "z", "frame", "series", "objects"],
)
def test_a_time_zone_that_is_an_offset_is_an_instant(result: object) -> None:
    """Polars knows zones by their names only."""
    (found,) = result_to_batch(result, 1).to_pydict()[PREDICTION_COLUMN]
    assert found.astimezone(dt.UTC) == INSTANT
    assert result_to_batch(result, 1).schema.types[0].tz == "UTC"


def test_nested_offsets_are_instants() -> None:
    kind = pa.list_(pa.struct([("at", pa.timestamp("us", "+05:30"))]))
    (found,) = result_to_batch(pa.array([[{"at": INSTANT}]], kind), 1).to_pydict()[PREDICTION_COLUMN]
    assert [each["at"].astimezone(dt.UTC) for each in found] == [INSTANT]


NAIVE = dt.datetime(2024, 1, 2)  # noqa: DTZ001 - as it is


@pytest.mark.parametrize(
    "result",
    [
        [NAIVE, HALF_PAST_SIX],
        [HALF_PAST_SIX, None, NAIVE],
        [[NAIVE], [HALF_PAST_SIX]],
        [{"a": NAIVE}, {"a": HALF_PAST_SIX}],
        np.array([NAIVE, HALF_PAST_SIX], dtype=object),
        pd.DataFrame({"a": pd.Series([NAIVE, HALF_PAST_SIX], dtype=object)}),
        [dt.time(12, tzinfo=dt.UTC)],
    ],
    ids=["list", "null", "nested", "dicts", "array", "frame", "time"],
)
def test_no_time_zone_is_dropped(result: object) -> None:
    """Arrow takes some datetimes without a zone for instants, and zones of others away."""
    with pytest.raises(BadResult):
        result_to_batch(result, None)


def test_other_columns_may_have_other_clocks() -> None:
    found = result_to_batch([{"a": NAIVE, "b": INSTANT, "c": None}, {"a": None, "b": None, "c": dt.time(12)}], 2)
    assert found.to_pylist()[0][PREDICTION_COLUMN]["a"] == NAIVE
    assert found.to_pylist()[0][PREDICTION_COLUMN]["b"].astimezone(dt.UTC) == INSTANT
