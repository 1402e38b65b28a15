"""A dict that a handler returns becomes one row, whose fields may be tables."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from base.errors import BadResult
from base.schema import Schema
from base.worker.prediction.record import record_to_batch

ROWS = [{"t": 1, "v": 0.5}, {"t": 2, "v": None}]


class Output(Schema):
    name: pl.String
    count: pl.Int64
    table: pl.List(pl.Struct({"t": pl.Int64, "v": pl.Float64}))  # type: ignore[valid-type]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (5, 5),
        ("a", "a"),
        (None, None),
        (pd.NaT, None),
        (pd.NA, None),
        ([{"a": pd.NA}, {"a": 1}], [{"a": None}, {"a": 1}]),
        (pd.DataFrame({"shop": ["a"], "sold": [1]}).groupby("shop").sum(), [{"shop": "a", "sold": 1}]),
        (date(2024, 2, 29), date(2024, 2, 29)),
        (2**70, str(2**70)),  # as everywhere: integers of 128 bits are strings
        (np.float64(0.5), 0.5),
        ([1, 2.5], [1.0, 2.5]),
        ([], []),
        (np.arange(3), [0, 1, 2]),
        (np.ones((2, 1)), [[1.0], [1.0]]),
        (pl.Series([1, None]), [1, None]),
        (pd.Series([1.5]), [1.5]),
        (pa.array(["x"]), ["x"]),
        ({"a": 1, "b": [1]}, {"a": 1, "b": [1]}),
        ([{"a": 1}, {"b": "x"}], [{"a": 1, "b": None}, {"a": None, "b": "x"}]),
        (pl.DataFrame(ROWS), ROWS),
        (pl.DataFrame(ROWS).lazy(), ROWS),
        (pl.DataFrame(ROWS).to_arrow(), ROWS),
        (pl.DataFrame(ROWS).to_pandas().convert_dtypes(), ROWS),
        (pl.DataFrame(ROWS).clear(), []),
        (pl.DataFrame(), []),
    ],
    ids=lambda each: type(each).__name__,
)
def test_each_value_is_a_field_of_the_only_row(value: object, expected: object) -> None:
    for name in ("field", "", "^f.*$"):
        batch = record_to_batch({name: value, "more": 1}, None)
        assert batch.to_pylist() == [{name: expected, "more": 1}]


@pytest.mark.parametrize("table", [pl.DataFrame(ROWS), ROWS, pl.DataFrame(ROWS).clear(), []], ids=lambda each: type(each).__name__)
def test_the_output_schema_holds(table: Any) -> None:
    batch = record_to_batch({"table": table, "count": 2, "name": "a"}, Output)
    assert batch.schema.equals(Output.arrow_schema())
    rows = table.to_dicts() if isinstance(table, pl.DataFrame) else table
    assert batch.to_pylist() == [{"name": "a", "count": 2, "table": rows}]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "a dict that is no record"),
        ({1: 2}, "whose names are strings"),
        ({"a": object()}, "^field 'a' of the record: the handler returned values of no one type that can be sent: object$"),
        (
            {"a": {"b": pl.DataFrame({"x": [1]})}},
            "^field 'a' of the record: the handler returned values of no one type that can be sent: dict$",
        ),
        ({"a\0b": 1}, "NUL character"),
        ({"a": pl.DataFrame({"x\0": [1]})}, "NUL character"),
    ],
)
def test_what_is_no_record_is_a_bad_result(record: dict[Any, object], message: str) -> None:
    with pytest.raises(BadResult, match=message):
        record_to_batch(record, None)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"name": "a", "count": 2}, r"missing: \['table'\]"),
        ({"name": "a", "count": 2, "table": ROWS, "more": 1}, r"not declared: \['more'\]"),
        ({"name": "a", "count": 2.5, "table": ROWS}, "'count' is Float64"),
        ({"name": None, "count": 2, "table": ROWS}, "'name' is null"),
        ({"name": "a", "count": 2, "table": pl.DataFrame({"t": ["x"], "v": [1.0]})}, "'table' is List"),
    ],
)
def test_a_record_that_breaks_the_output_schema_is_a_bad_result(record: dict[str, object], message: str) -> None:
    with pytest.raises(BadResult, match=message):
        record_to_batch(record, Output)
