"""Infers the types of columns of decoded JSON. Takes some values at a time, so that other threads may run in between.

Arrow alone takes a whole column, with all that is nested in it, in one call, which holds Python's lock: a quarter of a second for 4 million
values. The result is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

T = TypeVar("T")

_VALUES_AT_A_TIME = 65_536
"""Values of which none is nested, which Arrow reads in about 4 ms."""


def infer_column(values: list[Any]) -> pa.Array[Any]:
    """Returns the same as `pa.array`, and raises the same."""
    if len(values) == 0:
        return pa.nulls(0)
    kinds = set(chain.from_iterable(_in_slices(values, lambda some: set(map(type, some))))) - {type(None)}
    if kinds == {list}:
        return _infer_lists(values)
    if kinds == {dict} and any(values):
        return _infer_structs(values)
    types = set(_in_slices(values, pa.infer_type)) - {pa.null()}  # type: ignore[arg-type]
    if types == {pa.int64(), pa.float64()}:
        types = {pa.float64()}
    if len(types) > 1 or not (len(kinds) <= 1 or kinds == {int, float}):
        found: pa.Array[Any] = pa.array(values)
        return found  # values of different types, or integers that the usual type cannot hold
    kind = types.pop() if types else pa.null()
    return pa.concat_arrays(list(_in_slices(values, lambda some: pa.array(some, kind))))


def _in_slices(values: list[Any], read: Callable[[list[Any]], T]) -> Iterator[T]:
    return (read(values[start : start + _VALUES_AT_A_TIME]) for start in range(0, len(values), _VALUES_AT_A_TIME))


def _infer_lists(values: list[Any]) -> pa.Array[Any]:
    lengths = [0 if each is None else len(each) for each in values]
    flat: list[Any] = []
    for each in values:
        if each:
            flat += each
    offsets: Any = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
    found: pa.Array[Any] = pa.ListArray.from_arrays(offsets, infer_column(flat), mask=_nulls(values))
    return found


def _infer_structs(values: list[Any]) -> pa.Array[Any]:
    names: dict[str, None] = {}
    for some in _in_slices([each for each in values if each], list):
        names |= dict.fromkeys(chain.from_iterable(some))
    fields = [infer_column([None if each is None else each.get(name) for each in values]) for name in names]
    return pa.StructArray.from_arrays(fields, list(names), mask=_nulls(values))


def _nulls(values: list[Any]) -> pa.Array[Any] | None:
    """Returns a mask of the values that are null; None if there are none."""
    mask = np.array([each is None for each in values])
    return pa.array(mask) if mask.any() else None
