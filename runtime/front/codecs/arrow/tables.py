"""Arrow streams, and tables from any source: columns with types of their own.

Compression and dictionaries let them expand to far more than their bytes. Their declared sizes are checked before they are read, and their
actual sizes afterwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import polars as pl
import pyarrow as pa
from polars import CompatLevel

from base.errors import Cell, Malformed, TooLarge
from base.schema import ranges
from base.schema.values.polars_types import polars_type
from base.schema.wire import Column, has_nul_in_names
from runtime.front.codecs.arrow.expanded_size import expanded_bytes
from runtime.front.codecs.arrow.value_sizes import expanded_size
from runtime.front.codecs.values import cast, schema_fit
from runtime.front.codecs.values.limits import COLUMNS_MAX, NESTED_MAX, check_column_count, check_expanded_size


def read_arrow_stream(body: bytes | memoryview, columns_max: int = COLUMNS_MAX) -> pa.Table:
    """Returns the table of an Arrow stream.

    Raises:
        Malformed: The body is not exactly one complete Arrow stream.
        TooLarge: The stream expands to more than a request may hold, or has too many columns.
    """
    with malformed_unless_read(body):
        table = _open_stream(body, columns_max, None)
    validate_values(table)
    return table


@contextmanager
def malformed_unless_read(body: bytes | memoryview) -> Iterator[None]:
    """Raises Malformed in place of the errors of Arrow's reader."""
    try:
        yield
    except _READ_ERRORS as exc:
        if body[:6] == b"ARROW1":
            raise Malformed(
                "the body is an Arrow file; send an Arrow stream, as pyarrow.ipc.new_stream and Polars' write_ipc_stream do"
            ) from exc
        raise Malformed(f"the body is not an Arrow stream: {exc}") from exc


def validate_values(table: pa.Table) -> None:
    """Reads every value of a table that does not expand to too much.

    Raises:
        Malformed: A value is not valid.
    """
    try:
        table.validate(full=True)
    except pa.ArrowException as exc:
        raise Malformed(f"the body is not an Arrow stream: {exc}") from exc


def open_quick_stream(body: bytes, columns_max: int) -> pa.Table | None:
    """Returns the table of an Arrow stream of some kilobytes if it expands to so little that it is read quickly; else None.

    Its values are not validated yet.
    """
    try:
        table = _open_stream(body, columns_max, _QUICK_EXPANDED_BYTES)
    except (TooLarge, *_READ_ERRORS):
        return None
    return table if table.num_rows <= _QUICK_ROWS and table.num_columns <= _QUICK_COLUMNS else None


_READ_ERRORS = (pa.ArrowException, OSError, EOFError, ValueError)

_QUICK_COLUMNS, _QUICK_ROWS, _QUICK_EXPANDED_BYTES = 512, 65_536, 512 * 1024
"""What is converted within 20 ms."""


def _open_stream(body: bytes | memoryview, columns_max: int, max_bytes: int | None) -> pa.Table:
    """Returns the table of a stream that expands to no more than `max_bytes`, without a look at its values."""
    buffer = pa.py_buffer(body)
    check_expanded_size(0, expanded_bytes(buffer), max_bytes)
    reader = pa.ipc.open_stream(buffer)
    check_column_count(len(reader.schema), columns_max)
    table = reader.read_all()
    check_expanded_size(table.num_rows, 0)
    table.validate()
    expanded_size([chunk for column in table.columns for chunk in column.iterchunks()], max_bytes)
    return table


def fit_table(table: pa.Table, columns: Mapping[str, Column], unexpected: str) -> pl.DataFrame:
    """Returns the declared columns of a table.

    Raises:
        Misfit: A value does not fit.
    """
    names = table.schema.names
    duplicates = [name for name, count in Counter(names).items() if name in columns and count > 1]
    if duplicates:
        raise schema_fit.misfit_error([Cell(None, name, "the column appears more than once") for name in duplicates])

    whole = table.combine_chunks()  # without Python's lock, while each chunk would take 1 µs with it

    def read_column(name: str, dtype: pl.DataType) -> pl.Series:
        return cast.cast_column(_series(whole.column(name), name), dtype)

    return schema_fit.fit_columns(columns, dict.fromkeys(names), table.num_rows, read_column, unexpected=unexpected)


def infer_frame(table: pa.Table) -> pl.DataFrame:
    """Returns all columns with the types that Polars uses, categories as strings.

    Raises:
        Misfit: A column has a type that Polars does not support, a point in time out of range, a duplicate name, or a name with NUL.
    """
    if has_nul_in_names(table.schema):
        raise schema_fit.misfit_error([Cell(None, None, "a name of a column or field contains a NUL character")])
    if len(set(table.schema.names)) < len(table.schema.names):
        raise schema_fit.misfit_error([Cell(None, None, "a column appears more than once")])
    columns = {name: _series(column, name) for name, column in zip(table.schema.names, table.combine_chunks().columns, strict=True)}
    for name, each in columns.items():
        beyond = ranges.out_of_range(each)
        if beyond is not None:
            raise schema_fit.misfit_error([Cell(beyond.arg_max(), name, "expected a point in time in the years 1 to 9999")])
    return pl.DataFrame(columns or None, height=table.num_rows)


def _series(column: pa.ChunkedArray, name: str) -> pl.Series:  # type: ignore[type-arg]
    if _is_deep(column.type):
        raise schema_fit.misfit_error([Cell(None, name, f"values are nested more than {NESTED_MAX} levels deep")])
    try:
        while (wanted := polars_type(column.type)) != column.type:
            column = column.cast(wanted)
        found = pl.from_arrow(column)
    except pa.ArrowInvalid as exc:
        raise schema_fit.misfit_error([Cell(None, name, f"a value of type {column.type} is out of range: {exc}")]) from exc
    except (pa.ArrowException, pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError) as exc:
        raise schema_fit.misfit_error([Cell(None, name, f"columns of type {column.type} are not supported")]) from exc
    assert isinstance(found, pl.Series)
    return found.alias("")  # Polars computes with a series by its name, which could be a pattern


def _is_deep(kind: pa.DataType) -> bool:
    level = [kind]
    for _ in range(NESTED_MAX + 1):
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


def count_fields(schema: pa.Schema) -> int:
    """Returns the number of columns and of the fields of structs in them."""
    count = 0
    kinds: list[pa.DataType] = [pa.struct(schema)]
    while kinds:
        kind = kinds.pop()
        count += kind.num_fields if isinstance(kind, pa.StructType) else 0
        kinds += _inner(kind)
    return count


def to_table(frame: pl.DataFrame) -> pa.Table:
    """Returns a frame as a table, with the Arrow types that Polars uses."""
    return frame.rechunk().to_arrow(compat_level=CompatLevel.newest())


def to_one_batch(table: pa.Table) -> pa.RecordBatch:
    """Returns the rows of a table as one batch."""
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
