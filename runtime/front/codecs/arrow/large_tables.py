"""Reads Arrow and Parquet bodies of any size, some megabytes at a time.

A body whose columns are those that a worker expects is validated in its place. Any other is written, with the right columns, to a file of
record batches. Both are mapped by the worker. No more than a slice of the rows is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from base.errors import Misfit, TooLarge
from base.ipc.frames import read_table_watched
from runtime.front.codecs.arrow import tables
from runtime.front.codecs.arrow.expanded_size import message_sizes
from runtime.front.codecs.arrow.value_sizes import LISTLESS_IDS, expanded_size
from runtime.front.codecs.rows import Rows
from runtime.front.codecs.values.limits import EXPANDED_MAX_BYTES, check_column_count, check_expanded_size
from runtime.front.codecs.values.schema_fit import misfit_error
from runtime.front.memory.table_body import TableBody
from runtime.front.memory.table_files import TableWriter

FitBatch = Callable[[pa.RecordBatch], tuple[pa.RecordBatch, bool]]
"""Returns validated rows with the columns that a worker expects, and whether they are the same as before."""

_SLICE_BYTES, _SLICE_ROWS_MAX = 16 * 1024**2, 1024**2
"""Size of the slices in which a batch is read."""

_COLUMNS_MAX = 1_000_000
"""Maximum number of columns in all record batches together. Each takes 20 µs, however few rows it has."""

_ALIGNMENT = 8
"""Minimum alignment of values that Arrow's readers require."""


class ArrowSource:
    """The batches of an Arrow stream.

    Args:
        body: The stream.
        columns_max: Limit of its columns.

    Raises:
        Malformed: The body is not exactly one complete Arrow stream.
        TooLarge: It has too many columns or batches, or expands to too much.
    """

    def __init__(self, body: TableBody, columns_max: int) -> None:
        self._body = body
        self._max_bytes = body.file.files.expanded_max_bytes
        with tables.malformed_unless_read(body.body):
            sizes = message_sizes(pa.py_buffer(body.body), body.drop_pages)
            self._schema = pa.ipc.open_stream(pa.py_buffer(body.body)).schema
        check_column_count(len(self._schema), columns_max)
        self._is_compressed = any(sizes)
        if len(sizes) * (len(self._schema) + 1) > _COLUMNS_MAX:
            raise TooLarge(f"all record batches together may have {_COLUMNS_MAX} columns; send larger batches")
        if max(sizes, default=0) > EXPANDED_MAX_BYTES:
            raise TooLarge(f"a compressed record batch expands to {max(sizes)} bytes, limit {EXPANDED_MAX_BYTES}; send smaller ones")
        check_expanded_size(0, sum(sizes), self._max_bytes)

    def is_readable(self, batch: pa.RecordBatch) -> bool:
        """Returns whether a worker can read a batch where it is."""
        buffers = [each for column in batch.columns for each in column.buffers() if each is not None and each.size]
        return not self._is_compressed and all(each.address % _ALIGNMENT == 0 for each in buffers)

    def slices(self) -> Iterator[pa.RecordBatch]:
        """Yields the rows of all batches in slices, whose values are valid.

        Raises:
            Malformed: A value is not valid.
            TooLarge: The rows take too much.
        """
        taken = 0
        with tables.malformed_unless_read(self._body.body):
            none = pa.RecordBatch.from_pylist([], schema=self._schema)  # by which the columns are checked without a row
            found = iter(pa.ipc.open_stream(pa.py_buffer(self._body.body)))
            for batch in chain([next(found, none)], found):
                batch.validate()
                for part in _slices(batch):
                    taken += expanded_size(part.columns)
                    check_expanded_size(0, taken, self._max_bytes)
                    part.validate(full=True)
                    yield part
                    self._body.drop_pages()


def _slices(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a batch in slices. One with lists is not divided, since a slice of them refers to the lists of all rows."""
    size = batch.get_total_buffer_size()
    if not all(kind.id in LISTLESS_IDS for kind in batch.schema.types):
        if size > EXPANDED_MAX_BYTES:
            raise TooLarge(
                f"a record batch with nested columns or categories has {size} bytes, limit {EXPANDED_MAX_BYTES}; send smaller ones"
            )
        yield batch
        return
    rows = min(_SLICE_ROWS_MAX, max(1, batch.num_rows * _SLICE_BYTES // max(1, size)))
    for start in range(0, max(1, batch.num_rows), rows):
        yield batch.slice(start, rows)


def read_arrow_body(body: TableBody, columns_max: int, schema: pa.Schema | None, fit: FitBatch) -> Rows:
    """Returns the rows of an Arrow stream, which `body` holds in a form that a worker can read.

    Args:
        body: The body.
        columns_max: Limit of its columns.
        schema: Schema of the endpoint.
        fit: Fits rows to it.

    Raises:
        PexdockError: The body is refused, or there is no space for the table.
    """
    source = ArrowSource(body, columns_max)
    if not all(is_same and source.is_readable(batch) for batch, is_same in _fitted(source.slices(), fit)):
        _write_table(body, (batch for batch, _ in _fitted(source.slices(), fit)), schema)
    return _rows_of(body, schema)


def write_parquet_rows(body: TableBody, batches: Iterator[pa.RecordBatch], schema: pa.Schema | None, fit: FitBatch) -> Rows:
    """Returns the rows of a Parquet file, which `body` holds then in a form that a worker can read. Raises as `read_arrow_body`."""
    _write_table(body, (batch for batch, _ in _fitted(batches, fit)), schema)
    return _rows_of(body, schema)


def _fitted(batches: Iterator[pa.RecordBatch], fit: FitBatch) -> Iterator[tuple[pa.RecordBatch, bool]]:
    start = 0
    for batch in batches:
        try:
            yield fit(batch)
        except Misfit as exc:
            raise misfit_error([cell if cell.row is None else replace(cell, row=cell.row + start) for cell in exc.cells]) from exc
        start += batch.num_rows


def _write_table(body: TableBody, batches: Iterator[pa.RecordBatch], schema: pa.Schema | None) -> None:
    """Replaces the body by a stream of these batches, of which there is at least one."""
    files = body.file.files
    found = files.create()
    try:
        first = next(batches)
        with pa.ipc.new_stream(TableWriter(found), first.schema if schema is None else schema) as stream:
            stream.write_batch(first)
            for batch in batches:
                stream.write_batch(batch)
                check_expanded_size(0, found.size, files.expanded_max_bytes)
                body.drop_pages()
    except BaseException:
        found.close()
        raise
    body.replace(found)


def _rows_of(body: TableBody, schema: pa.Schema | None) -> Rows:
    table, _ = read_table_watched(body.body, schema, body.drop_pages)
    rows = Rows(table, "" if schema is not None else table.schema.to_string(show_field_metadata=False, show_schema_metadata=False))
    rows.body_buffer = body
    return rows
