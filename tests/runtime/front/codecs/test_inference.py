"""Columns that are built some values at a time are those that Arrow builds at once."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.front.codecs.values import inference
from runtime.front.codecs.values.inference import infer_column

NUMBERS = st.sampled_from([0, -1, 2.5, 2**53 + 1, 2**63, 2**64 - 1, 2**64])
SCALARS = [st.integers(-9, 9), st.floats(allow_nan=False, width=32), st.booleans(), st.text("aé", max_size=2), NUMBERS]


def shapes(depth: int) -> st.SearchStrategy[st.SearchStrategy[object]]:
    """Returns strategies of values of one shape, which are null now and then."""
    scalars = st.sampled_from(SCALARS)
    if not depth:
        return scalars
    inner = shapes(depth - 1)
    lists = inner.map(lambda each: st.lists(each | st.none(), max_size=4))
    objects = st.dictionaries(st.sampled_from("zab"), inner, max_size=3).map(lambda each: st.fixed_dictionaries({}, optional=each))
    return scalars | lists | objects


def outcome(build: object, values: list[object]) -> object:
    """Returns the type and the values of a column, or that there is none."""
    try:
        column = build(values)  # type: ignore[operator]
    except (pa.ArrowException, OverflowError):
        return "none"
    column.validate(full=True)
    return column.type, column.to_pylist()


@settings(deadline=None)  # Arrow imports pandas for its first array
@given(st.data(), st.integers(1, 7))
def test_a_column_is_that_of_arrow(data: st.DataObject, at_a_time: int) -> None:
    """So are its errors, for values of different types and integers of any size."""
    of_one, of_other = data.draw(shapes(2)), data.draw(shapes(1))
    values = data.draw(st.lists(of_one | st.none(), max_size=12)) + data.draw(st.lists(of_other, max_size=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "_VALUES_AT_A_TIME", at_a_time)
        assert outcome(infer_column, values) == outcome(pa.array, values)


def test_arrow_gets_no_more_than_some_values_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However they are nested."""
    lengths: list[int] = []
    array = pa.array

    def watched(values: object, *kinds: object, **options: object) -> object:
        if isinstance(values, list):
            lengths.append(sum(len(each) if isinstance(each, list | dict) else 1 for each in values))
        return array(values, *kinds, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(inference.pa, "array", watched)
    values = [[[number] * 1000] * 300 for number in range(3)] + [[[{"a": [1] * 300_000}]]]  # type: ignore[list-item]
    with pytest.raises(pa.ArrowInvalid):
        infer_column([*values])
    assert infer_column(values[:3]).to_pylist() == values[:3]
    assert infer_column(values[3]).to_pylist() == values[3]
    assert max(lengths) <= 65_536
