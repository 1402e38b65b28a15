"""Arrow streams of some hundred bytes to some kilobytes whose columns have hundreds of millions of values, or gigabytes of text."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa

import hostile_bodies as hostile

MANY = 300_000_000

_TEXTS = pa.array(["x" * 100_000])
_REPEATED = 20_000


def _without_buffers(kind: pa.DataType, count: int) -> pa.Array:
    return pa.Array.from_buffers(kind, count, [None] * kind.num_buffers)


def _of_runs(count: int, value: pa.Array) -> pa.Array:
    return pa.RunEndEncodedArray.from_arrays(pa.array([count], pa.int32()), value)


def _repeated_views() -> pa.Array:
    """Returns a text of 100 kB in each of many rows, which all point at the same bytes."""
    _, views, data = pa.array(["x" * 100_000], pa.string_view()).buffers()
    return pa.Array.from_buffers(pa.string_view(), _REPEATED, [None, pa.py_buffer(views.to_pybytes()[:16] * _REPEATED), data])


def _repeated_lists() -> pa.Array:
    """Returns a long list in each of many rows, which all have the same elements."""
    zeros = pa.array(np.zeros(_REPEATED, np.int32))
    return pa.ListViewArray.from_arrays(zeros, pa.array(np.full(_REPEATED, 20_000, np.int32)), pa.array(np.zeros(20_000, np.int8)))


VALUES: dict[str, Callable[[], pa.Array]] = {
    "nulls": lambda: pa.nulls(MANY),
    "structs without fields": lambda: _without_buffers(pa.struct([]), MANY),
    "structs of nulls": lambda: pa.StructArray.from_arrays([pa.nulls(MANY)], ["x"]),
    "lists of fixed size of nulls": lambda: pa.FixedSizeListArray.from_arrays(pa.nulls(MANY), 100),
    "lists without room": lambda: pa.Array.from_buffers(pa.list_(pa.int8(), 0), MANY, [None], children=[pa.array([], pa.int8())]),
    "binary of no bytes": lambda: pa.Array.from_buffers(pa.binary(0), MANY, [None, pa.py_buffer(b"")]),
    "one run": lambda: _of_runs(MANY, pa.array([1])),
    "a union of nulls": lambda: pa.UnionArray.from_sparse(pa.array(np.zeros(40_000_000, np.int8)), [pa.nulls(40_000_000)]),
    "repeated views": _repeated_views,
    "repeated dictionary texts": lambda: pa.DictionaryArray.from_arrays(pa.array(np.zeros(_REPEATED, np.int16)), _TEXTS),
    "repeated dictionary lists": lambda: pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(_REPEATED, np.int16)), pa.ListArray.from_arrays(pa.array([0, 100_000], pa.int32()), pa.nulls(100_000))
    ),
    "repeated lists": _repeated_lists,
}
"""Arrays that take next to no bytes, or share them."""

_OFFSETS = {pa.ListArray: pa.int32(), pa.LargeListArray: pa.int64()}

LAYOUTS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "list": lambda values: pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values),
    "large_list": lambda values: pa.LargeListArray.from_arrays(pa.array([0, len(values)], pa.int64()), values),
    "fixed_size_list": lambda values: pa.FixedSizeListArray.from_arrays(values, len(values)),
    "list_view": lambda values: pa.ListViewArray.from_arrays(pa.array([0], pa.int32()), pa.array([len(values)], pa.int32()), values),
    "large_list_view": lambda values: pa.LargeListViewArray.from_arrays(pa.array([0]), pa.array([len(values)]), values),
    "list in struct": lambda values: pa.StructArray.from_arrays([LAYOUTS["list"](values)], ["x"]),
    "list in list": lambda values: LAYOUTS["large_list"](LAYOUTS["list"](values)),
    "list in dictionary": lambda values: pa.DictionaryArray.from_arrays(pa.array([0], pa.int8()), LAYOUTS["list"](values)),
    "map": lambda values: pa.Array.from_buffers(
        pa.map_(pa.list_(pa.int8(), 0), values.type),
        1,
        [None, pa.py_buffer(np.array([0, len(values)], np.int32))],
        children=[pa.StructArray.from_arrays([_without_room(len(values)), values], ["key", "value"])],
    ),
}
"""One row that holds all values."""


def _without_room(count: int) -> pa.Array:
    return pa.Array.from_buffers(pa.list_(pa.int8(), 0), count, [None], children=[pa.array([], pa.int8())])


def bodies(name: str = "l") -> Iterator[tuple[str, bytes]]:
    """Yields each layout of each kind of values, and long columns without a list, as the column of this name."""
    for kind, make in VALUES.items():
        values = make()
        columns = {layout: wrap(values) for layout, wrap in LAYOUTS.items()} | {"column": values}
        for layout, column in columns.items():
            try:
                body = hostile.stream(pa.table({name: column}), compression="zstd" if "union" in kind else None)
            except (pa.ArrowException, IndexError):  # Arrow cannot write every combination
                continue
            yield f"{layout} of {kind}", body
