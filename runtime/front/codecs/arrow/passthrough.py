"""Arrow columns that match an endpoint's schema exactly, which are used without a cast and without a copy.

Accepts fewer columns than `values.cast`; only that module rejects columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from base.schema.dtypes import is_wide
from base.schema.wire import Column


class ArrowPassthrough:
    """Passes the columns of one schema through, if all of them are numbers, booleans or strings.

    Args:
        schema: The schema that the endpoint declares.
        columns: The columns of that schema.
        unexpected: See `schema_fit.fit_columns`.
    """

    def __init__(self, schema: pa.Schema, columns: Mapping[str, Column], unexpected: str) -> None:
        self._schema = schema
        self._rejects_unexpected = unexpected == "reject"
        self._fields = [(field.name, field.type, field.nullable) for field in schema]
        self._simple = bool(columns) and all(_is_simple(column.dtype) for column in columns.values())

    def matching_batch(self, table: pa.Table) -> pa.RecordBatch | None:
        """Returns the rows of a validated table; None if a column needs a cast or must be rejected."""
        if not self._simple or (self._rejects_unexpected and table.num_columns != len(self._fields)):
            return None
        found = [self._column(table, *each) for each in self._fields]
        columns = [each for each in found if each is not None]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema) if len(columns) == len(found) else None

    @staticmethod
    def _column(table: pa.Table, name: str, kind: pa.DataType, nullable: bool) -> pa.Array[Any] | None:
        index = table.schema.get_field_index(name)  # -1 also for a name that appears twice
        if index < 0:
            return None
        column: pa.ChunkedArray[Any] = table.column(index)
        if column.num_chunks != 1 or column.type != kind or (column.null_count and not nullable):
            return None
        return column.chunk(0)  # type: ignore[return-value]  # the stubs confuse a chunk with chunks


def _is_simple(dtype: pl.DataType) -> bool:
    """Returns whether every value of the Arrow type is one of the dtype. 128-bit integers travel as text, which may be any."""
    return (dtype.is_integer() and not is_wide(dtype)) or dtype.is_float() or isinstance(dtype, pl.Boolean | pl.String)
