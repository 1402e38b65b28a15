"""Casts columns that have dtypes of their own (Arrow, Parquet) to the dtypes of a schema, without loss.

A value fits if the wanted dtype holds it exactly: an integer that a float represents exactly, a float without a fraction in an integer
column, a datetime in a coarser unit, a date as its midnight in a column without a time zone. Booleans are not numbers. Strings are never
parsed here, except as 128-bit integers, which have no other form that holds all of them.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from base.schema.constraints import shorten_value
from base.schema.dtypes import as_instance, is_wide, wire_form
from base.schema.values.json_forms import explode_lists
from runtime.front.codecs.values import nested, text
from runtime.front.codecs.values.mismatch import ValueMismatch, check_time_range, describe_expected, raise_mismatch, raise_mismatch_where


def cast_column(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Returns the column in `dtype`'s wire form.

    Raises:
        ValueMismatch: A value would be lost or changed.
    """
    wire = wire_form(dtype)
    if source.null_count() == len(source):
        return pl.Series(source.name, [None], wire).new_from_index(0, len(source))
    match dtype:
        case pl.List() | pl.Array():
            return _cast_lists(source, dtype)
        case pl.Struct():
            return _cast_structs(source, dtype)
    if is_wide(dtype) and _kind(source.dtype) == "string":
        return text.column_from_text(source.cast(pl.String), dtype)
    if _kind(source.dtype) != _kind(dtype) and not (source.dtype == pl.Date and _kind(dtype) == _LOCAL_TIME):
        at = int(source.is_not_null().arg_max() or 0)
        raise ValueMismatch(at, f"expected {describe_expected(dtype)}, got {source.dtype}: {shorten_value(source[at])}")
    if isinstance(source.dtype, pl.Categorical | pl.Enum):
        source = source.cast(pl.String)
    if isinstance(dtype, pl.Enum):
        raise_mismatch_where(~source.is_in(dtype.categories) & source.is_not_null(), dtype, source)
    if source.dtype.is_temporal():
        check_time_range(source, dtype)
    if isinstance(dtype, pl.Datetime) and dtype.time_zone is not None:
        source = source.dt.convert_time_zone(dtype.time_zone)
    return source if source.dtype == wire else _cast_exactly(source, dtype).cast(wire)


def _cast_exactly(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Casts the column and casts it back: values that come back changed would have been lost."""
    try:
        found = _to_half_floats(source) if dtype == pl.Float16 else source.cast(dtype, strict=False)
        same = found.cast(source.dtype, strict=False).eq_missing(source)
    except pl.exceptions.PolarsError:
        raise_mismatch(int(source.is_not_null().arg_max() or 0), dtype, source.drop_nulls()[0])
    raise_mismatch_where(~same, dtype, source)
    return found


def _to_half_floats(source: pl.Series) -> pl.Series:
    """Returns the nearest 16-bit floats. Polars would round twice, first to 32 bits."""
    floats = source.cast(pl.Float64)
    with np.errstate(over="ignore"):
        halves = pl.Series(source.name, floats.fill_null(0.0).to_numpy().astype(np.float16))
    return halves.zip_with(floats.is_not_null(), pl.Series([None], dtype=pl.Float16))


_LOCAL_TIME = ("datetime", False)
"""The kind of datetimes without a time zone. With one, a date is no instant."""


def _kind(dtype: pl.DataType) -> object:
    """Returns equal values for dtypes whose values may be equal."""
    if dtype.is_numeric():
        return "number"
    match dtype:
        case pl.String() | pl.Categorical() | pl.Enum():
            return "string"
        case pl.Datetime():
            return "datetime", dtype.time_zone is not None
    return type(dtype)


def _cast_lists(source: pl.Series, dtype: pl.List | pl.Array) -> pl.Series:
    if not isinstance(source.dtype, pl.List | pl.Array):
        first = int(source.is_not_null().arg_max() or 0)
        raise_mismatch(first, dtype, source[first])
    lengths, null, flat = explode_lists(source)
    if isinstance(dtype, pl.Array):
        wrong = (lengths != dtype.size) & ~null
        if wrong.any():
            raise_mismatch(int(np.argmax(wrong)), dtype, source[int(np.argmax(wrong))].to_list())
    try:
        inner = cast_column(flat, as_instance(dtype.inner))
    except ValueMismatch as exc:
        row = None if exc.row is None else nested.outer_row(lengths, exc.row)
        raise ValueMismatch(row, exc.reason, f"[]{exc.place}") from exc
    return nested.build_lists(lengths, null, inner, dtype).alias(source.name)


def _cast_structs(source: pl.Series, dtype: pl.Struct) -> pl.Series:
    if not isinstance(source.dtype, pl.Struct):
        row = int(source.is_not_null().arg_max() or 0)
        raise_mismatch(row, dtype, source[row])
    have = source.struct.unnest()  # by name, Polars would take some names for patterns
    fields = []
    for field in dtype.fields:
        if field.name not in have.columns:
            raise ValueMismatch(int(source.is_not_null().arg_max() or 0), "the field is missing", f".{field.name}")
        try:
            fields.append(cast_column(have[field.name].alias(""), as_instance(field.dtype)).alias(field.name))
        except ValueMismatch as exc:
            raise ValueMismatch(exc.row, exc.reason, f".{field.name}{exc.place}") from exc
    return nested.build_structs(fields, source.is_null().to_numpy()).alias(source.name)
