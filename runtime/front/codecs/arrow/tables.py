"""Arrow streams, and tables that came in any way: columns with types of their own.

They may hold far more than their bytes: compressed, or as one value that stands for a million. What they say of themselves is checked
before they are read, and what comes out is weighed as it comes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from polars import CompatLevel

from base.errors import Cell, Malformed
from base.schema.dtypes import wire_form
from base.schema.wire import Column
from runtime.front.codecs.arrow.expanded_size import expanded_bytes
from runtime.front.codecs.values import cast, schema_fit
from runtime.front.codecs.values.limits import check_column_count, check_expanded_size

_NESTED_MAX = 32
"""Lists and structs in each other. Polars descends with its stack, and some hundreds of them end the process."""


def read_arrow_stream(body: bytes | memoryview) -> pa.Table:
    """The table of an Arrow stream.

    Raises:
        Malformed: the body is not an Arrow stream.
        TooLarge: it holds more than it may.
    """
    try:
        buffer = pa.py_buffer(body)
        check_expanded_size(0, expanded_bytes(buffer))
        table = pa.ipc.open_stream(buffer).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, ValueError) as exc:
        raise Malformed("the body is not an Arrow stream") from exc
    check_expanded_size(
        table.num_rows, table.nbytes + sum(dictionary_growth_bytes(chunk) for column in table.columns for chunk in column.chunks)
    )
    return table


def dictionary_growth_bytes(column: Any) -> int:
    """What a validated array takes where each of its rows has its own value, beyond what it takes as it is: 0 without dictionaries."""
    match column.type:
        case pa.DictionaryType():
            return int(pc.sum(pc.take(_lengths(column.dictionary), column.indices)).as_py() or 0)
        case pa.BaseExtensionType():
            return dictionary_growth_bytes(column.storage)
        case pa.StructType():
            return sum(map(dictionary_growth_bytes, column.flatten()))
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType() | pa.MapType():
            return dictionary_growth_bytes(column.values)
    return 0


def _lengths(words: Any) -> Any:
    """The bytes of each; of what is nested the longest may be as long as all of them."""
    kind = words.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):  # each begins with its length
        lengths = np.frombuffer(words.buffers()[1], np.int32)[4 * words.offset : 4 * (words.offset + len(words)) : 4]
        return pa.array(lengths.astype(np.int64), mask=np.asarray(words.is_null()))
    if pa.types.is_primitive(kind) or pa.types.is_null(kind):
        return pa.array(np.full(len(words), 8))
    if kind.num_fields:
        return pa.array(np.full(len(words), words.nbytes))
    return pc.binary_length(words).cast(pa.int64())


def fit_table(table: pa.Table, columns: Mapping[str, Column], unexpected: str) -> pl.DataFrame:
    """The declared columns of a table.

    Raises:
        Misfit: a value does not fit.
    """
    names = table.schema.names
    twice = [name for name in dict.fromkeys(names) if name in columns and names.count(name) > 1]
    if twice:
        raise schema_fit.misfit_error([Cell(None, name, "the column is there more than once") for name in twice])

    def read(name: str, dtype: pl.DataType) -> pl.Series:
        return cast.cast_column(_series(table.column(name), name), dtype)

    return schema_fit.fit_columns(columns, names, table.num_rows, read, unexpected=unexpected)


def infer_frame(table: pa.Table) -> pl.DataFrame:
    """All columns as Polars holds them, categories as strings.

    Raises:
        Misfit: a column is of a type that Polars does not have, or is there twice.
    """
    check_column_count(table.num_columns)
    if len(set(table.schema.names)) < len(table.schema.names):
        raise schema_fit.misfit_error([Cell(None, None, "a column is there more than once")])
    frame = pl.DataFrame([_series(table.column(name), name) for name in table.schema.names])
    return frame.cast({name: wire_form(dtype) for name, dtype in frame.schema.items() if wire_form(dtype) != dtype})


def _series(column: pa.ChunkedArray, name: str) -> pl.Series:  # type: ignore[type-arg]
    if _is_deep(column.type):
        raise schema_fit.misfit_error([Cell(None, name, f"values are nested in each other more than {_NESTED_MAX} times")])
    try:
        if pa.types.is_date64(column.type):
            column = column.cast(pa.date32())  # Polars would take it for a datetime
        found = pl.from_arrow(column)
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError) as exc:
        raise schema_fit.misfit_error([Cell(None, name, f"columns of type {column.type} cannot be read")]) from exc
    assert isinstance(found, pl.Series)
    return found.alias(name)


def _is_deep(kind: pa.DataType) -> bool:
    level = [kind]
    for _ in range(_NESTED_MAX + 1):
        level = [inner for each in level for inner in _inner(each)]
        if not level:
            return False
    return True


def _inner(kind: pa.DataType) -> list[pa.DataType]:
    if isinstance(kind, pa.DictionaryType):
        return [kind.value_type]
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    return [kind.field(i).type for i in range(kind.num_fields)]


def to_table(frame: pl.DataFrame) -> pa.Table:
    """Returns a frame as a table, with the Arrow types that Polars uses."""
    return frame.rechunk().to_arrow(compat_level=CompatLevel.newest())


def to_one_batch(table: pa.Table) -> pa.RecordBatch:
    """Returns the rows of a table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
