"""Parquet files → tables.

Arrow's reader believes what a file says: it makes room for a page as large as its header claims, and for as many values as it names. So
each page's header is read here first, and what would be too much is refused before anything is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import Malformed, TooLarge
from runtime.front.codecs.arrow import tables
from runtime.front.codecs.parquet import delta_lengths, footer
from runtime.front.codecs.parquet import page_header as pages
from runtime.front.codecs.parquet.read_budget import ReadBudget, ReadPlan
from runtime.front.codecs.values import limits

_CHUNKS_MAX = 100_000
"""Columns of all row groups together. Each takes 20 µs, however little is in it."""

_ARRAY_BYTES = 512
"""That a column of a batch takes, however few rows it has."""

_FAULTS = (pa.ArrowException, OSError, EOFError, ValueError, MemoryError, RuntimeError)
"""What Arrow's reader of Parquet raises; the last where something that is optional cannot be."""


def read_parquet(body: bytes, columns: Iterable[str] | None) -> pa.Table:
    """The table of a Parquet file; of these columns, of which none need be there.

    Raises:
        Malformed: the body is not a Parquet file.
        TooLarge: it holds more than it may.
    """
    try:
        groups = footer.read_row_groups(body, _CHUNKS_MAX + 3 * limits.COLUMNS_MAX)
        with _opened(body) as file:
            weight = _weighed(body, file.metadata, groups)
            if not weight.dictionary_columns:
                return _read(file, columns, weight)
        with _opened(body, weight.dictionary_columns) as file:
            return _read(file, columns, weight)
    except _FAULTS as exc:
        raise Malformed(f"the body is not a Parquet file that can be read: {exc}") from exc


def _opened(body: bytes, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    limit = 4 * limits.COLUMNS_MAX  # of elements of a list, for which room is made before any is there; a list takes three of a schema
    return pq.ParquetFile(pa.BufferReader(body), read_dictionary=read_dictionary, thrift_container_size_limit=limit)


def _read(file: pq.ParquetFile, columns: Iterable[str] | None, weight: ReadPlan) -> pa.Table:
    schema, rows = file.schema_arrow, file.metadata.num_rows
    wanted = set(schema.names if columns is None else columns)
    kept = pa.schema([field for field in schema if field.name in wanted])
    if not kept.names:  # without columns there are rows all the same, which a table of columns alone forgets
        return pa.table({"": pa.nulls(rows)})
    groups = range(file.num_row_groups)
    batches, size = [], 0
    # What is shared is so within a row group, and a batch cannot have two of it in a list.
    for batch in chain.from_iterable(
        file.iter_batches(weight.batch_rows, row_groups=each, columns=None if columns is None else kept.names, use_threads=False)
        for each in ([[i] for i in groups] if weight.dictionary_columns else [list(groups)])
    ):
        batch.validate(full=True)
        size += batch.nbytes + _ARRAY_BYTES * batch.num_columns + sum(tables.dictionary_growth_bytes(column) for column in batch.columns)
        limits.check_expanded_size(0, size)
        # Asked for "a", Arrow reads "a.b", too.
        batches.append(batch.select([i for i, name in enumerate(batch.schema.names) if name in wanted]))
    found = pa.Table.from_batches(batches, kept)
    if found.num_rows != rows:
        raise ValueError("columns of other rows than the file says that it has")
    return found


def _weighed(body: bytes, about: pq.FileMetaData, groups: Sequence[footer.RowGroup]) -> ReadPlan:
    """By what the file says, and what each of its pages does. Its chunks are not asked for here, see `footer`.

    Raises:
        TooLarge: that is more than it may hold.
    """
    _check_writer(about.created_by or "")
    width, rows = about.num_columns, about.num_rows
    limits.check_column_count(width)
    if len(groups) * max(1, width) > _CHUNKS_MAX:
        raise TooLarge(f"a Parquet file may have {_CHUNKS_MAX} columns in all of its row groups; send larger ones")
    limits.check_expanded_size(rows, 0)
    if about.num_row_groups != len(groups) or any(len(group.chunks) != width for group in groups):
        raise ValueError("a row group of other columns than the schema's")
    if sum(group.rows for group in groups) != rows:
        raise ValueError("row groups of other rows than the file says that it has")
    columns = [about.schema.column(i) for i in range(width)]
    scales = ReadBudget(rows, columns)
    for group in groups:
        for column, chunk in zip(columns, group.chunks, strict=True):
            _weigh(body, group.rows, column, chunk, scales)
    return scales.read_plan()


def _weigh(body: bytes, rows: int, column: pq.ColumnSchema, chunk: footer.ColumnChunk, scales: ReadBudget) -> None:
    """Puts the pages of one column in one row group on the scales."""
    values, levels = 0, (column.max_repetition_level > 0) + (column.max_definition_level > 0)
    for page in _pages(body, chunk):
        scales.add_page(page, column)
        values += page.values
        if page.encoding in (pages.DELTA_LENGTH_BYTE_ARRAY, pages.DELTA_BYTE_ARRAY):
            delta_lengths.check_delta_lengths(body, page, chunk.codec, levels)
    if values < rows or (values > rows and column.max_repetition_level == 0):
        raise ValueError("a column of other rows than its row group")


def _pages(body: bytes, chunk: footer.ColumnChunk) -> Iterator[pages.PageHeader]:
    """Those of one column in one row group, just where Arrow looks for them."""
    at, end = chunk.start, chunk.start + chunk.size
    if chunk.start < 0 or chunk.size < 0 or end > len(body):
        raise ValueError("a column beyond the end of the file")
    while at < end:
        page = pages.read_page_header(body, at)
        if page.end > end:
            raise ValueError("a page beyond the end of its column")
        yield page
        at = page.end


def _check_writer(created_by: str) -> None:
    """Behind the pages of a very old writer's columns Arrow reads a little more (PARQUET-816), which nobody has looked at here.

    Raises:
        ValueError: the file says that it is of that writer.
    """
    if "parquet-mr" not in created_by.lower():
        return
    found = _PARQUET_MR.fullmatch(created_by)
    if found is None or tuple(map(int, found.groups())) < (1, 2, 9):
        raise ValueError("files of parquet-mr before 1.2.9 are not read")


_PARQUET_MR = re.compile(r"parquet-mr version (\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[-+.]\S*)?(?: \(build [^()]*\))?")
