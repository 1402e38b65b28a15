"""The Polars dtypes that a schema may have: the Python types of their values, and their form on the wire.

Knows neither requests nor rows. Object and Null have no values that could be checked, and are refused by name.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Literal, TypeGuard

import polars as pl
from polars._typing import PolarsDataType

from base.errors import Declaration

_LEAVES: Mapping[type[pl.DataType], tuple[type, object]] = {
    **dict.fromkeys((pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64), (int, 1)),
    **dict.fromkeys((pl.Int128, pl.UInt128), (int, 1)),
    **dict.fromkeys((pl.Float16, pl.Float32, pl.Float64), (float, 1.0)),
    pl.Boolean: (bool, True),
    pl.String: (str, "text"),
    pl.Categorical: (str, "text"),
    pl.Enum: (str, "text"),
    pl.Binary: (bytes, b"bytes"),
    pl.Date: (dt.date, dt.date(2024, 1, 31)),
    pl.Datetime: (dt.datetime, dt.datetime(2024, 1, 31, 12, 30)),  # noqa: DTZ001 - the column adds its own time zone
    pl.Time: (dt.time, dt.time(12, 30)),
    pl.Duration: (dt.timedelta, dt.timedelta(seconds=90)),
    pl.Decimal: (Decimal, Decimal(1)),
}
"""The Python type of each dtype's values, and one value for examples."""

_NESTED: tuple[type[pl.DataType], ...] = (pl.List, pl.Array, pl.Struct)


def is_dtype(value: object) -> TypeGuard[PolarsDataType]:
    """Returns True for a dtype, as a class or an instance."""
    return isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType))


def supported_dtype(where: str, given: PolarsDataType) -> pl.DataType:
    """Returns the dtype as an instance, nested dtypes included.

    Args:
        where: Names the column in the error.
        given: The dtype as the author wrote it.

    Raises:
        Declaration: The dtype is not supported, or is incomplete (a decimal without a scale, a list without an inner dtype).
    """
    kind: type[pl.DataType] = given if isinstance(given, type) else type(given)  # type: ignore[assignment]  # Polars' name for it
    if kind not in _LEAVES and kind not in _NESTED:
        supported = ", ".join(each.__name__ for each in (*_LEAVES, *_NESTED))
        raise Declaration(f"{where}: {kind.__name__} is not supported; use one of {supported}")
    if isinstance(given, type) and kind in _INCOMPLETE:
        raise Declaration(f"{where}: {_INCOMPLETE[kind]}")
    dtype: pl.DataType = given() if isinstance(given, type) else given
    match dtype:
        case pl.List():
            return pl.List(supported_dtype(where, dtype.inner))
        case pl.Array():
            if dtype.size == 0:
                raise Declaration(f"{where}: an array must have at least one element")
            return pl.Array(supported_dtype(where, dtype.inner), dtype.size)
        case pl.Struct() if not dtype.fields:
            raise Declaration(f"{where}: a struct must have at least one field")
        case pl.Struct():
            for field in dtype.fields:
                check_name(f"{where}.{field.name}", field.name)
            return pl.Struct({field.name: supported_dtype(f"{where}.{field.name}", field.dtype) for field in dtype.fields})
        case pl.Enum() if dtype.categories.is_empty():
            raise Declaration(f"{where}: an enum must have at least one category")
    return dtype


def check_name(where: str, name: str) -> None:
    """Checks the name of a column or of a field in a struct.

    Raises:
        Declaration: It has a NUL, at which names end for Arrow, or it is not Unicode.
    """
    if "\0" in name or any("\ud800" <= character <= "\udfff" for character in name):
        raise Declaration(f"{where!r}: a name cannot have NUL characters or halves of surrogate pairs")


_INCOMPLETE: Mapping[type[pl.DataType], str] = {
    pl.Decimal: "a decimal needs its precision and scale, as in pl.Decimal(10, 2)",
    pl.Enum: 'an enum needs its categories, as in pl.Enum(["low", "high"])',
    pl.List: "a list needs its inner dtype, as in pl.List(pl.Float64)",
    pl.Array: "an array needs its inner dtype and size, as in pl.Array(pl.Float64, 3)",
    pl.Struct: 'a struct needs its fields, as in pl.Struct({"x": pl.Float64})',
}


def as_instance(dtype: PolarsDataType) -> pl.DataType:
    """Returns a supported dtype as an instance: Polars' type hints allow an inner dtype to be a class."""
    return dtype() if isinstance(dtype, type) else dtype


def python_type(dtype: pl.DataType) -> Any:
    """Returns the Python type of this dtype's values. Elements of lists, arrays and structs may be None: Polars cannot forbid it."""
    match dtype:
        case pl.List() | pl.Array():
            return list.__class_getitem__(python_type(as_instance(dtype.inner)) | None)
        case pl.Struct():
            return dict[str, Any]
        case pl.Enum():
            return Literal[tuple(dtype.categories)]
    return _LEAVES[type(dtype)][0]


def example_value(dtype: pl.DataType) -> object:
    """Returns one value of this dtype."""
    match dtype:
        case pl.List():
            return [example_value(as_instance(dtype.inner))]
        case pl.Array():
            return [example_value(as_instance(dtype.inner))] * dtype.size
        case pl.Struct():
            return {field.name: example_value(as_instance(field.dtype)) for field in dtype.fields}
        case pl.Enum():
            return dtype.categories[0]
        case pl.Datetime(time_zone=str()):
            return dt.datetime(2024, 1, 31, 12, 30, tzinfo=dt.UTC)
    return _LEAVES[type(dtype)][1]


def is_wide(dtype: pl.DataType) -> TypeGuard[pl.Int128 | pl.UInt128]:
    """Returns True for integers of 128 bits."""
    return isinstance(dtype, pl.Int128 | pl.UInt128)


def wire_form(dtype: pl.DataType) -> pl.DataType:
    """Returns the dtype with strings in place of categories and of 128-bit integers.

    Categories are numbers with a separate dictionary, which a lone record batch does not carry. Polars turns strings into categories in
    about 20 ns per row, less than a dictionary message would cost. Arrow has no 128-bit integers; their strings are decimal digits.
    """
    match dtype:
        case pl.Categorical() | pl.Enum() | pl.Int128() | pl.UInt128():
            return pl.String()
        case pl.List():
            return pl.List(wire_form(as_instance(dtype.inner)))
        case pl.Array():
            return pl.Array(wire_form(as_instance(dtype.inner)), dtype.size)
        case pl.Struct():
            return pl.Struct({field.name: wire_form(as_instance(field.dtype)) for field in dtype.fields})
    return dtype


def string_meaning(dtype: pl.DataType) -> Any:
    """Returns what the strings of a dtype's `wire_form` stand for, as JSON; None if they are plain strings or there are none."""
    match dtype:
        case pl.Categorical():
            return "categorical"
        case pl.Int128():
            return "int128"
        case pl.UInt128():
            return "uint128"
        case pl.Enum():
            return {"enum": dtype.categories.to_list()}
        case pl.List() | pl.Array():
            inner = string_meaning(as_instance(dtype.inner))
            return None if inner is None else {"inner": inner}
        case pl.Struct():
            fields = {field.name: string_meaning(as_instance(field.dtype)) for field in dtype.fields}
            return {"fields": fields} if any(each is not None for each in fields.values()) else None
    return None


def dtype_from_meaning(dtype: pl.DataType, meaning: Any) -> pl.DataType:
    """Returns the dtype whose `wire_form` is `dtype` and whose `string_meaning` is `meaning`."""
    match meaning, dtype:
        case "categorical", _:
            return pl.Categorical()
        case "int128", _:
            return pl.Int128()
        case "uint128", _:
            return pl.UInt128()
        case {"enum": names}, _:
            return pl.Enum(names)
        case {"inner": inner}, pl.List():
            return pl.List(dtype_from_meaning(as_instance(dtype.inner), inner))
        case {"inner": inner}, pl.Array():
            return pl.Array(dtype_from_meaning(as_instance(dtype.inner), inner), dtype.size)
        case {"fields": fields}, pl.Struct():
            return pl.Struct({each.name: dtype_from_meaning(as_instance(each.dtype), fields[each.name]) for each in dtype.fields})
    return dtype
