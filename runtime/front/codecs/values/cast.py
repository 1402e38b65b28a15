"""Columns that have dtypes of their own (Arrow, Parquet) → the dtypes that a schema wants, where nothing is lost.

A value fits if it is exactly one of the wanted dtype, whatever holds it: an integer in a float column that it fills exactly, a float
without a fraction in an integer column, a datetime in a coarser unit. Booleans are no numbers. Strings are never read as anything else
here, but for 128-bit integers, which have no other form in which all of them can come.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from base.schema.constraints import shorten_value
from base.schema.dtypes import as_instance, is_wide, wire_form
from runtime.front.codecs.values import nested, text
from runtime.front.codecs.values.mismatch import ValueMismatch, check_time_range, describe_expected, raise_mismatch, raise_mismatch_where


def cast_column(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    """The column in `dtype`'s wire form.

    Raises:
        Unfit: a value would be lost or changed.
    """
    wire = wire_form(dtype)
    if source.null_count() == len(source):
        return pl.Series(source.name, [None] * len(source), wire)
    match dtype:
        case pl.List() | pl.Array():
            return _lists(source, dtype)
        case pl.Struct():
            return _structs(source, dtype)
    if is_wide(dtype) and _kind(source.dtype) == "string":
        return text.column_from_text(source.cast(pl.String), dtype)
    if _kind(source.dtype) != _kind(dtype):
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
    return source if source.dtype == wire else _exact(source, dtype).cast(wire)


def _exact(source: pl.Series, dtype: pl.DataType) -> pl.Series:
    """Cast, and cast back: what comes back changed would have been lost."""
    try:
        found = _halved(source) if dtype == pl.Float16 else source.cast(dtype, strict=False)
        same = found.cast(source.dtype, strict=False).eq_missing(source)
    except pl.exceptions.PolarsError:
        raise_mismatch(int(source.is_not_null().arg_max() or 0), dtype, source.drop_nulls()[0])
    raise_mismatch_where(~same, dtype, source)
    return found


def _halved(source: pl.Series) -> pl.Series:
    """Numbers as the 16-bit floats nearest to them. Polars would round twice, by way of 32 bits."""
    floats = source.cast(pl.Float64)
    with np.errstate(over="ignore"):
        halves = pl.Series(source.name, floats.fill_null(0.0).to_numpy().astype(np.float16))
    return halves.zip_with(floats.is_not_null(), pl.Series([None], dtype=pl.Float16))


def _kind(dtype: pl.DataType) -> object:
    """Equal for dtypes whose values may be the same."""
    if dtype.is_numeric():
        return "number"
    match dtype:
        case pl.String() | pl.Categorical() | pl.Enum():
            return "string"
        case pl.Datetime():
            return "datetime", dtype.time_zone is not None
    return type(dtype)


def _lists(source: pl.Series, dtype: pl.List | pl.Array) -> pl.Series:
    if not isinstance(source.dtype, pl.List | pl.Array):
        first = int(source.is_not_null().arg_max() or 0)
        raise_mismatch(first, dtype, source[first])
    lengths, null, flat = nested.explode_lists(source)
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


def _structs(source: pl.Series, dtype: pl.Struct) -> pl.Series:
    if not isinstance(source.dtype, pl.Struct):
        row = int(source.is_not_null().arg_max() or 0)
        raise_mismatch(row, dtype, source[row])
    have = {field.name for field in source.dtype.fields}
    fields = []
    for field in dtype.fields:
        if field.name not in have:
            raise ValueMismatch(int(source.is_not_null().arg_max() or 0), "the field is missing", f".{field.name}")
        try:
            fields.append(cast_column(source.struct.field(field.name), as_instance(field.dtype)).alias(field.name))
        except ValueMismatch as exc:
            raise ValueMismatch(exc.row, exc.reason, f".{field.name}{exc.place}") from exc
    return nested.build_structs(fields, source.is_null().to_numpy()).alias(source.name)
