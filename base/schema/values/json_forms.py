"""Values of columns as JSON can hold them: ISO 8601 for times, base64 for bytes, digits for decimals.

Years have four digits. Datetimes with a time zone are written in UTC.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.types as pt

Lengths = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_VALUES_AT_A_TIME = 65_536
"""Values that Polars reads in about 3 ms, in which it holds Python's lock."""


def records_of(batch: pa.RecordBatch) -> list[dict[str, object]]:
    """Returns rows as records of values that JSON has."""
    names = batch.schema.names
    if not names:
        return [{}] * batch.num_rows
    return [dict(zip(names, row, strict=True)) for row in zip(*map(column_values, batch.columns), strict=True)]


def column_values(column: pa.Array) -> list[object]:  # type: ignore[type-arg]
    """Returns the values of a column as JSON can hold them, as `column_to_json` does."""
    kind = column.type
    if pt.is_integer(kind) or pt.is_floating(kind) or pt.is_boolean(kind) or pt.is_string_view(kind):
        return list(column.to_pylist())
    series = pl.from_arrow(column)
    assert isinstance(series, pl.Series)
    return column_to_json(series)


def column_to_json(column: pl.Series) -> list[object]:
    """Returns the column's values as JSON can hold them: text, numbers, lists and dicts. NaN and infinities stay floats."""
    if isinstance(column.dtype, pl.List | pl.Array):
        lengths, null, flat = explode_lists(column)
        elements = iter(column_to_json(flat))
        # Elements are taken from one flat list, so rows must be built in order.
        return [None if absent else [next(elements) for _ in range(length)] for length, absent in zip(lengths, null, strict=True)]
    if isinstance(column.dtype, pl.Struct):
        fields = column.struct.unnest()
        names = fields.columns
        rows = zip(*(column_to_json(field.alias("")) for field in fields), strict=True) if names else [()] * len(column)
        return [None if absent else dict(zip(names, row, strict=True)) for absent, row in zip(column.is_null(), rows, strict=True)]
    flat = column_to_text(column)
    if len(flat) <= _VALUES_AT_A_TIME:
        return flat.to_list()
    return list(chain.from_iterable(flat.slice(start, _VALUES_AT_A_TIME).to_list() for start in range(0, len(flat), _VALUES_AT_A_TIME)))


def column_to_text(column: pl.Series) -> pl.Series:
    """Returns a column that is not nested as JSON and CSV can hold it: values without a type of their own there become text."""
    match column.dtype:
        case pl.Binary():
            return column.bin.encode("base64")
        case pl.Date():
            return column.dt.to_string("%Y-%m-%d")
        case pl.Time():
            return column.dt.to_string("%H:%M:%S%.f")
        case pl.Datetime(time_zone=None):
            return column.dt.to_string("%Y-%m-%dT%H:%M:%S%.f")
        case pl.Datetime():
            return column.dt.convert_time_zone("UTC").dt.to_string("%Y-%m-%dT%H:%M:%S%.fZ")
        case pl.Duration():
            return column.dt.to_string("iso")
        case pl.Decimal() | pl.Categorical() | pl.Enum():
            return column.cast(pl.String)
    return column


def explode_lists(column: pl.Series) -> tuple[Lengths, Mask, pl.Series]:
    """Returns the length of each list (0 for a null), a mask of the null lists, and all elements one after the other."""
    lists = column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
    lengths = lists.list.len().fill_null(0).to_numpy().astype(np.int64)
    flat = lists.explode(empty_as_null=False, keep_nulls=False)
    return lengths, column.is_null().to_numpy(), flat
