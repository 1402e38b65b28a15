"""Values inside of lists, arrays and structs are cast to the output schema as whole columns are."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.errors import BadResult
from base.schema import Schema
from base.schema.model import SchemaMeta
from base.worker.prediction.record import record_to_batch
from base.worker.prediction.result import result_to_batch

DTYPES = [
    pl.Int8(),
    pl.Int64(),
    pl.UInt64(),
    pl.Int128(),
    pl.Float32(),
    pl.Float64(),
    pl.String(),
    pl.Enum(["a", "b"]),
    pl.Categorical(),
    pl.Boolean(),
    pl.Null(),
    pl.Decimal(10, 2),
    pl.Duration("ms"),
    pl.Duration("us"),
    pl.List(pl.Int16()),
    pl.Array(pl.Int8(), 2),
]
VALUES: dict[type[pl.DataType], st.SearchStrategy[Any]] = {
    **dict.fromkeys((pl.Int8, pl.Int64, pl.UInt64, pl.Int128), st.integers(0, 127)),
    **dict.fromkeys((pl.Float32, pl.Float64), st.sampled_from([0.0, 1.5, float("nan")])),
    **dict.fromkeys((pl.String, pl.Categorical, pl.Enum), st.sampled_from(["a", "b"])),
    pl.Boolean: st.booleans(),
    pl.Decimal: st.sampled_from([Decimal(1), Decimal("2.25")]),
    pl.Duration: st.timedeltas(timedelta(days=-100_000), timedelta(days=100_000)),  # Polars makes no Series of the largest
    pl.List: st.lists(st.integers(0, 127), min_size=1, max_size=2),
    pl.Array: st.lists(st.integers(0, 127), min_size=2, max_size=2),
}
OTHER = {pl.Int64: st.sampled_from([2**53 + 1, -(2**62)]), pl.String: st.just("c")}


class Table(Schema):
    t: pl.List(pl.Struct({"s": pl.String, "v": pl.Float64}))  # type: ignore[valid-type]


@pytest.mark.parametrize(
    "table",
    [
        [{"s": "a", "v": 1}],
        [{"s": "a", "v": None}],
        [{"v": 1.0, "s": "a"}],
        pl.DataFrame(schema=["s", "v"]),
        pl.DataFrame({"v": [1.5], "s": ["a"]}, schema_overrides={"v": pl.Float32}),
        pl.DataFrame({"s": ["a"], "v": [1]}).to_pandas(),
        [],
        (),
        [None],
    ],
    ids=str,
)
def test_a_table_is_cast_whatever_its_data(table: Any) -> None:
    """Integers, nulls, no rows and another order of fields, in a record and in a frame."""
    rows = table.to_dicts() if isinstance(table, pl.DataFrame) else table.to_dict("records") if hasattr(table, "to_dict") else list(table)
    assert record_to_batch({"t": table}, Table).to_pylist() == [{"t": rows}]
    if isinstance(table, list):
        assert result_to_batch([table, table], 2, Table).to_pylist() == [{"t": rows}] * 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            [{"s": "a", "w": 1.0}],
            r"column 't' has the fields \['s', 'w'\], but Table declares \['s', 'v'\]; missing: \['v'\]; not declared: \['w'\]",
        ),
        ([{"s": "a"}], r"missing: \['v'\]$"),
        ([{"s": "a", "v": "1"}], "cast could lose something"),
        ([{"s": "a", "v": 2**53 + 1}], "cast could lose something"),
        ([1], "cast could lose something"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(table: Any, message: str) -> None:
    """Its fields are named as columns are."""
    with pytest.raises(BadResult, match=message):
        record_to_batch({"t": table}, Table)


def test_arrays_become_lists_and_lists_become_arrays() -> None:
    """At each level."""

    class Grid(Schema):
        rows: pl.List(pl.List(pl.Float64))  # type: ignore[valid-type]
        grid: pl.Array(pl.Float32, (2, 2))  # type: ignore[valid-type]

    pairs = [[1, 2], [3, 4]]
    batch = record_to_batch({"rows": np.array(pairs), "grid": pairs}, Grid)
    assert batch.schema.equals(Grid.arrow_schema())
    assert batch.to_pylist() == [{"rows": pairs, "grid": pairs}]


@settings(deadline=None, max_examples=200)
@given(st.data())
def test_a_nested_value_is_cast_exactly_if_a_column_of_it_is(data: st.DataObject) -> None:
    """The cast column has the same values too, in a list, in a struct, and in a list of structs."""
    source, wanted = data.draw(st.sampled_from(DTYPES)), data.draw(st.sampled_from([each for each in DTYPES if each != pl.Null()]))
    value = VALUES.get(type(source), st.none()) | OTHER.get(type(source), st.none())
    column = pl.Series("x", data.draw(st.lists(value | st.none(), min_size=1, max_size=4)), dtype=source)
    plain = _fitted(column, wanted)
    structs = pl.DataFrame({"b": pl.repeat(7, len(column), dtype=pl.Int32, eager=True), "f": column}).to_struct()
    dtype = pl.Struct({"f": wanted, "b": pl.Int64()})
    in_structs: list[Any] | None = None if plain is None else [{"f": value, "b": 7} for value in plain]
    assert str(_fitted(column.implode(), pl.List(wanted))) == str(plain and [plain])
    assert str(_fitted(structs, dtype)) == str(in_structs)
    assert str(_fitted(structs.implode(), pl.List(dtype))) == str(in_structs and [in_structs])


def _fitted(column: pl.Series, dtype: pl.DataType) -> list[Any] | None:
    annotations = {"x": Annotated[Any, dtype] | None}
    declared = SchemaMeta("Declared", (Schema,), {"__module__": __name__, "__qualname__": "Declared", "__annotations__": annotations})
    assert issubclass(declared, Schema)
    try:
        return result_to_batch(pl.DataFrame({"x": column}), len(column), declared).column(0).to_pylist()
    except BadResult:
        return None
