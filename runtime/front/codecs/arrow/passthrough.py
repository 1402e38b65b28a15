"""Arrow columns that are an endpoint's as they stand: taken without another look at their values, and without a copy.

Admits less than `typed` does, and leaves every refusal to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from base.schema.wire import Column


class ArrowPassthrough:
    """The columns of one schema, where all of them are numbers, booleans or strings.

    Args:
        schema: what the endpoint declares.
        columns: the same in the front door's words.
        unexpected: see `fit.fitted`.
    """

    def __init__(self, schema: pa.Schema, columns: Mapping[str, Column], unexpected: str) -> None:
        self._schema = schema
        self._closed = unexpected == "reject"
        self._fields = [(field.name, field.type, field.nullable) for field in schema]
        self._simple = bool(columns) and all(_is_simple(column.dtype) for column in columns.values())

    def matching_batch(self, table: pa.Table) -> pa.RecordBatch | None:
        """The rows of a table that was validated; None where anything needs another look."""
        if not self._simple or (self._closed and table.num_columns != len(self._fields)):
            return None
        found = [self._column(table, *each) for each in self._fields]
        columns = [each for each in found if each is not None]
        return pa.RecordBatch.from_arrays(columns, schema=self._schema) if len(columns) == len(found) else None

    @staticmethod
    def _column(table: pa.Table, name: str, kind: pa.DataType, nullable: bool) -> pa.Array[Any] | None:
        index = table.schema.get_field_index(name)  # -1 also where it is there twice
        if index < 0:
            return None
        column: pa.ChunkedArray[Any] = table.column(index)
        if column.num_chunks != 1 or column.type != kind or (column.null_count and not nullable):
            return None
        return column.chunk(0)  # type: ignore[return-value]  # the stubs take a chunk for chunks


def _is_simple(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype.is_float() or isinstance(dtype, pl.Boolean | pl.String)
