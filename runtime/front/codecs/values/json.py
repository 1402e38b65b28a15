"""Decoded JSON values ↔ columns: the dtypes that a JSON value fits, and the JSON form of a column's values.

A number fits by its value: `1.0` is an integer, `1` is a float. Integers of 128 bits may also be text of digits. A decimal fraction means
the nearest float, as usual; an integer in place of a float must equal the float, or be its shortest decimal form.
"""

from __future__ import annotations

import decimal
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import polars as pl

from base.schema.dtypes import as_instance, is_wide, wire_form
from runtime.front.codecs.values import nested
from runtime.front.codecs.values import text as texts
from runtime.front.codecs.values.mismatch import ValueMismatch, integer_bounds, raise_mismatch

_Number: TypeAlias = int | float | Decimal


def column_from_json(values: Sequence[object], dtype: pl.DataType) -> pl.Series:
    """Returns a column of `dtype`'s wire form.

    Args:
        values: Values as `msgspec` decodes JSON, with decimal fractions as `parse_fraction` returns them.
        dtype: The dtype that the schema declares.

    Raises:
        ValueMismatch: A value does not fit the dtype.
    """
    match dtype:
        case pl.List() | pl.Array():
            return _lists(values, dtype)
        case pl.Struct():
            return _structs(values, dtype)
        case pl.Decimal():
            return texts.column_of_decimals(list(values), dtype)
    if is_wide(dtype):
        return _numbers([texts.parse_integer(value) for value in values], dtype, _to_integer).cast(wire_form(dtype))
    if dtype.is_integer():
        return _numbers(values, dtype, _to_integer)
    if dtype.is_float():
        return _numbers(values, dtype, _to_float)
    _check_types(values, dtype, bool if dtype == pl.Boolean else str)
    if dtype == pl.Boolean:
        return pl.Series("", values, pl.Boolean)
    return texts.column_from_text(pl.Series("", values, pl.String), dtype)


def parse_fraction(text: str) -> Decimal | float:
    """Returns a number with a fraction or exponent, with all its digits; or the nearest float if its exponent exceeds all dtypes."""
    try:
        return Decimal(text)
    except decimal.InvalidOperation:
        return float(text)


def _check_types(values: Sequence[object], dtype: pl.DataType, kind: type) -> None:
    if not set(map(type, values)) <= {kind, type(None)}:
        row = next(i for i, value in enumerate(values) if value is not None and type(value) is not kind)
        raise_mismatch(row, dtype, _shown(values[row]))


def _shown(value: object) -> object:
    return float(value) if isinstance(value, Decimal) else value


def _numbers(values: Sequence[object], dtype: pl.DataType, convert: Callable[[_Number, pl.DataType], object]) -> pl.Series:
    parts = [
        _some_numbers(values[start : start + _VALUES_AT_A_TIME], start, dtype, convert)
        for start in range(0, len(values) or 1, _VALUES_AT_A_TIME)
    ]
    return parts[0] if len(parts) == 1 else pl.concat(parts)


_VALUES_AT_A_TIME = 65_536
"""Values that Polars reads or writes in about 3 ms, in which it holds Python's lock."""


def _some_numbers(values: Sequence[object], first: int, dtype: pl.DataType, convert: Callable[[_Number, pl.DataType], object]) -> pl.Series:
    found: list[object] = []
    for row, value in enumerate(values, first):
        if value is None:
            found.append(None)
            continue
        one = convert(value, dtype) if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else None
        if one is None:
            raise_mismatch(row, dtype, _shown(value))
        found.append(one)
    return pl.Series("", found, dtype)


def _to_integer(value: _Number, dtype: pl.DataType) -> int | None:
    low, high = integer_bounds(dtype)
    # The range is checked first, since an exponent of a few digits makes an integer of millions of digits.
    return int(value) if low <= value <= high and value == int(value) else None


_FLOATS: Mapping[type[pl.DataType], Callable[[float], Any]] = {pl.Float16: np.float16, pl.Float32: np.float32, pl.Float64: float}
"""Functions that round to the nearest float. Polars would round to 32 bits first and then to 16, which may give another result."""


def _to_float(value: _Number, dtype: pl.DataType) -> float | None:
    try:
        with np.errstate(over="ignore"):
            found = _FLOATS[type(dtype)](float(value))
    except OverflowError:
        return None
    if not math.isfinite(found):
        return None
    fits = not isinstance(value, int) or int(found) == value or Decimal(str(found)) == value
    return float(found) if fits else None


def _lists(values: Sequence[object], dtype: pl.List | pl.Array) -> pl.Series:
    _check_types(values, dtype, list)
    rows = [value if isinstance(value, list) else [] for value in values]
    null = np.array([value is None for value in values], bool)
    lengths = np.array([len(row) for row in rows], np.int64)
    if isinstance(dtype, pl.Array):
        wrong = (lengths != dtype.size) & ~null
        if wrong.any():
            raise_mismatch(int(wrong.argmax()), dtype, values[int(wrong.argmax())])
    try:
        flat = column_from_json([element for row in rows for element in row], as_instance(dtype.inner))
    except ValueMismatch as exc:
        row = None if exc.row is None else nested.outer_row(lengths, exc.row)
        raise ValueMismatch(row, exc.reason, f"[]{exc.place}") from exc
    return nested.build_lists(lengths, null, flat, dtype)


def _structs(values: Sequence[object], dtype: pl.Struct) -> pl.Series:
    _check_types(values, dtype, dict)
    null = np.array([value is None for value in values], bool)
    fields = []
    for field in dtype.fields:
        inner = as_instance(field.dtype)
        taken: list[object] = []
        for row, value in enumerate(values):
            if isinstance(value, dict) and field.name not in value:
                raise ValueMismatch(row, "the field is missing", f".{field.name}")
            taken.append(value[field.name] if isinstance(value, dict) else None)
        try:
            fields.append(column_from_json(taken, inner).alias(field.name))
        except ValueMismatch as exc:
            raise ValueMismatch(exc.row, exc.reason, f".{field.name}{exc.place}") from exc
    return nested.build_structs(fields, null).cast(wire_form(dtype)) if fields else pl.Series("", [None] * len(values), dtype)
