"""The size of Arrow columns once each value has memory of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arrow_bombs
import hostile_bodies as hostile
from base.errors import Malformed, TooLarge
from runtime.front.codecs.arrow.value_sizes import expanded_size
from runtime.front.codecs.decoder import RowDecoder, decode_body

ARROW = "application/vnd.apache.arrow.stream"


@pytest.mark.parametrize(
    ("column", "size"),
    [
        (pa.array([1, 2, 3], pa.int32()), 12),
        (pa.nulls(5), 5 * 8),
        (pa.array([[None] * 10, []], pa.list_(pa.null())), 2 * 8 + 10 * 8),
        (pa.array([[None] * 10] * 2, pa.list_(pa.null(), 10)), 2 * 8 + 20 * 8),
        (pa.array([[{}, {}]], pa.large_list(pa.struct([]))), 8 + 2 * 8),
        (pa.array(["abc", None], pa.string_view()), 2 * 16 + 3),
        (pa.array([["abc", "d"]], pa.list_(pa.string())), 8 + (8 + 3) + (8 + 1)),
        (pa.array(["abc", "abc", None]).dictionary_encode(), 2 * (8 + 3) + 8),
        (pa.array([None], pa.dictionary(pa.int8(), pa.string())), 8),
        (pa.array([{"a": "xyz"}]), 8 + 8 + 3),
        (pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())), 8 + 8 + (8 + 1) + 8),
        (pa.ListViewArray.from_arrays([0, 0, 1], [3, 3, 0], pa.array(["x", "yy", "z"])), 3 * 8 + 2 * (3 * 8 + 4)),
        (pa.array([[1, 2], [3]], pa.list_(pa.int16())).slice(1), 8 + 8),
    ],
    ids=lambda each: str(each.type) if isinstance(each, pa.Array) else None,
)
def test_every_value_counts_as_often_as_it_is_used(column: pa.Array[Any], size: int) -> None:
    """Its texts with their bytes, and every value in another with eight bytes at least."""
    column.validate(full=True)
    assert expanded_size([column]) == size
    assert expanded_size([column], size) == size
    with pytest.raises(TooLarge):
        expanded_size([column], size - 1)


def test_the_names_of_fields_count_in_text() -> None:
    """Every struct has them there."""
    assert expanded_size([pa.array([[{"name": 1}] * 10])], with_names=True) == 8 + 10 * (8 + len("name"))


_TYPES = st.recursive(
    st.sampled_from(
        [pa.null(), pa.int8(), pa.float64(), pa.string(), pa.string_view(), pa.binary_view(), pa.large_string(), pa.struct([])]
    ),
    lambda inner: st.one_of(
        inner.map(pa.list_),
        inner.map(pa.large_list),
        inner.map(pa.list_view),
        inner.map(lambda kind: pa.list_(kind, 2)),
        inner.map(lambda kind: pa.map_(pa.string(), kind)),
        st.lists(inner, max_size=2).map(lambda kinds: pa.struct([(f"f{i}", kind) for i, kind in enumerate(kinds)])),
    ),
    max_leaves=3,
)


def _values(kind: pa.DataType) -> st.SearchStrategy[Any]:
    if pa.types.is_null(kind):
        return st.none()
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({field.name: _values(field.type) for field in kind})
    if pa.types.is_map(kind):
        return st.none() | st.lists(st.tuples(st.text("ab", max_size=20), _values(kind.item_type)), max_size=3)
    if pa.types.is_fixed_size_list(kind):
        return st.none() | st.lists(_values(kind.value_type), min_size=2, max_size=2)
    if kind.num_fields:
        return st.none() | st.lists(_values(kind.value_type), max_size=4)
    if pa.types.is_binary_view(kind):
        return st.none() | st.binary(max_size=20)
    return st.none() | (st.integers(0, 9) if kind in (pa.int8(), pa.float64()) else st.text("ab", max_size=20))


def _least_size(value: Any) -> int:
    """Returns the bytes that Python's form of a value has at least: its characters, and one byte for each other value in it."""
    if isinstance(value, dict):
        return 1 + sum(map(_least_size, value.values()))
    if isinstance(value, list | tuple):
        return 1 + sum(map(_least_size, value))
    return len(value) if isinstance(value, str | bytes) else 1


@given(st.data())
def test_no_column_takes_more_values_and_characters_than_its_size(data: st.DataObject) -> None:
    """Nor less than a hundredth of it. This holds for slices, and for columns of which each value is in a dictionary."""
    kind = data.draw(_TYPES)
    rows = data.draw(st.lists(_values(kind), max_size=6))
    column = pa.array(rows, kind)
    start = data.draw(st.integers(0, len(rows)))
    assert expanded_size([column.slice(start)]) >= _least_size(column.slice(start).to_pylist()) - 1
    assert expanded_size([column]) <= 100 * (1 + _least_size(column.to_pylist()))
    if rows:
        indices = data.draw(st.lists(st.none() | st.integers(0, len(rows) - 1), max_size=20))
        repeated = pa.DictionaryArray.from_arrays(pa.array(indices, pa.int8()), column)
        least = sum(1 if index is None else _least_size(column[index].as_py()) for index in indices)
        assert expanded_size([repeated]) >= least


def test_a_bomb_is_refused_before_anything_touches_its_values() -> None:
    """Whatever its layout and kind of values are: a body of some kilobytes takes neither memory nor the event loop's time."""
    count = 0
    before = pa.total_allocated_bytes()
    for name, body in arrow_bombs.bodies():
        decoder = RowDecoder(None)
        assert len(body) < 500_000, name
        assert not decoder.is_quick_arrow(body), name
        with pytest.raises(TooLarge, match=r"limit 5000000|expands to more than"):
            decode_body(decoder, ARROW, body)
        count += 1
    assert count == len(arrow_bombs.VALUES) * (1 + len(arrow_bombs.LAYOUTS))
    assert pa.total_allocated_bytes() - before < 1_000_000


def test_a_dictionary_of_many_columns_counts_for_each_of_them() -> None:
    """Each takes the time to read it, even if no row has its values."""
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array(np.arange(100_000).astype(str)))
    assert expanded_size([column] * 5, 1_000_000) == 5 * (8 + 1)
    with pytest.raises(TooLarge):
        expanded_size([column] * 10, 1_000_000)


@pytest.mark.parametrize(
    "column",
    [
        pa.Array.from_buffers(pa.list_(pa.null()), 3, [None, pa.py_buffer(np.array([0, 4, 2, 4], np.int32))], children=[pa.nulls(4)]),
        pa.ListViewArray.from_buffers(
            pa.list_view(pa.string()),
            1,
            [None, pa.py_buffer(np.array([2**30], np.int32)), pa.py_buffer(np.array([2**30], np.int32))],
            children=[pa.array(["x"])],
        ),
        pa.Array.from_buffers(pa.string_view(), 1, [None, pa.py_buffer(np.array([-1, 0, 0, 0], np.int32))]),
    ],
    ids=["offsets", "views of lists", "views of texts"],
)
def test_lengths_that_contradict_each_other_are_malformed(column: pa.Array[Any]) -> None:
    """They are found before they are added up."""
    with pytest.raises(ValueError, match=r"offsets of a list|another length"):
        expanded_size([column])
    with pytest.raises(Malformed):
        decode_body(RowDecoder(None), ARROW, hostile.stream(pa.table({"a": column})))


def test_plain_lists_and_texts_stay_quick() -> None:
    """Small bodies without anything that expands are decoded in the event loop, as those of Polars with views of texts."""
    table = pa.table({"e": [[0.5] * 768], "s": pa.array(["a text of some length"], pa.string_view()), "n": [1]})
    decoder, body = RowDecoder(None), hostile.stream(table)
    assert decoder.is_quick_arrow(body)
    assert decode_body(decoder, ARROW, body).count == 1
    assert decode_body(decoder, ARROW, body).count == 1
