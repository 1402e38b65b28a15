"""Values of handlers that are too deep or too wide are refused, before Arrow or Polars ends the process on them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from base.errors import BadResult
from base.worker.prediction.nesting import FIELDS_MAX, NESTED_MAX
from base.worker.prediction.record import record_to_batch
from base.worker.prediction.result import result_to_batch


def cyclic_dict() -> Any:
    value: dict[str, Any] = {}
    value["a"] = value
    value["b"] = [value]
    return value


def cyclic_list() -> Any:
    value: list[Any] = []
    value += [value, value]
    return value


def cyclic_array() -> Any:
    value = np.empty(2, dtype=object)
    value[:] = [value, None]
    return value


def nested(levels: int, *, dicts: bool) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value} if dicts else [value]
    return value


def tree() -> Any:
    value: Any = 1
    for _ in range(NESTED_MAX):
        value = {"a": value, "b": value}
    return value


@pytest.mark.parametrize(
    "value",
    [
        cyclic_dict(),
        cyclic_list(),
        cyclic_array(),
        nested(NESTED_MAX + 1, dicts=True),
        nested(100_000, dicts=True),
        nested(100_000, dicts=False),
        {str(i): i for i in range(200_000)},
        [{str(i): i} for i in range(FIELDS_MAX + 1)],
        tree(),
    ],
    ids=["dict", "list", "array", "33", "dicts", "lists", "wide", "ragged", "tree"],
)
def test_what_has_no_bounds_is_a_bad_result(value: Any) -> None:
    """As a field, in a list, in an array and in a column of pandas."""
    column = np.empty(1, dtype=object)
    column[0] = value
    for result in ([value], (value,), column, pd.Series(column), pd.DataFrame({"a": column})):
        with pytest.raises(BadResult, match=r"levels deep|columns or fields"):
            result_to_batch(result, None)
        with pytest.raises(BadResult, match=r"levels deep|columns or fields"):
            record_to_batch({"a": result}, None)
    with pytest.raises(BadResult, match=r"levels deep|columns or fields"):
        record_to_batch(value if isinstance(value, dict) else {"a": value}, None)


def test_a_frame_has_bounds_too() -> None:
    """A frame of too many columns is refused as a dict is."""
    with pytest.raises(BadResult, match="columns or fields"):
        result_to_batch(pl.DataFrame(np.zeros((1, FIELDS_MAX + 1))), None)


@pytest.mark.parametrize("dicts", [True, False])
def test_what_is_within_the_bounds_is_sent(dicts: bool) -> None:
    """The deepest value and the widest record."""
    value = nested(NESTED_MAX, dicts=dicts)
    assert result_to_batch([value], 1).to_pydict() == {"prediction": [value]}
    assert record_to_batch({"a": nested(NESTED_MAX - 1, dicts=dicts)}, None).num_rows == 1
    assert result_to_batch([{"a": value, "b": None} for value in range(100_000)], None).num_rows == 100_000


def test_levels_of_an_index_become_columns_if_they_have_names() -> None:
    """Others are only numbers of rows. A column of the same name is no longer hidden."""
    frame = pd.DataFrame({"shop": ["a", "b"], "day": [1, 2], "sold": [3, 4]})
    grouped = frame.groupby(["shop", "day"]).sum()
    assert result_to_batch(grouped, 2).to_pydict() == {"shop": ["a", "b"], "day": [1, 2], "sold": [3, 4]}
    assert result_to_batch(frame.set_axis([7, 9]), 2).column_names == ["shop", "day", "sold"]
    assert result_to_batch(grouped["sold"], 2).to_pydict() == {"prediction": [3, 4]}
    with pytest.raises(BadResult, match="already exists"):
        result_to_batch(frame.set_index("shop", drop=False), 2)
