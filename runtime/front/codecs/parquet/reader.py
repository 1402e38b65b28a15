"""Reads Parquet files into tables.

Arrow's reader trusts a file: it allocates as many bytes and values for a page as the page's header claims. So each header is parsed here
first, and files that would expand to too much are refused before anything is expanded.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import Malformed, TooLarge
from base.schema.wire import batch_of_columns
from runtime.front.codecs.arrow.value_sizes import expanded_size
from runtime.front.codecs.parquet import delta_lengths, footer
from runtime.front.codecs.parquet import page_header as pages
from runtime.front.codecs.parquet.read_budget import ReadBudget, ReadPlan
from runtime.front.codecs.values import limits

_CHUNKS_MAX = 100_000
"""Maximum number of columns in all row groups together. Each takes 20 µs, regardless of its size."""

_ARRAY_BYTES = 512
"""Bytes that a column of a batch takes, regardless of the number of rows."""

_READ_ERRORS = (pa.ArrowException, OSError, EOFError, ValueError, MemoryError, RuntimeError)
"""Exceptions of Arrow's Parquet reader; RuntimeError for an invalid optional value."""


def read_parquet(body: bytes, columns: Iterable[str] | None, columns_max: int = limits.COLUMNS_MAX) -> pa.Table:
    """Returns the table of a Parquet file. Arguments and errors are those of `read_batches`."""
    return pa.Table.from_batches(list(read_batches(body, columns, columns_max)))


def read_batches(
    body: bytes | mmap.mmap, columns: Iterable[str] | None, columns_max: int = limits.COLUMNS_MAX, max_bytes: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a Parquet file, in at least one batch.

    Args:
        body: The file.
        columns: The columns that are read, as far as the file has them; None means all columns.
        columns_max: Limit of the columns of the file.
        max_bytes: Limit of what it may expand to, a few batches at a time; None for that of a file that is read at once.

    Raises:
        Malformed: The body is not a Parquet file that can be read.
        TooLarge: The file expands to more than it may.
    """
    try:
        groups = footer.read_row_groups(body, _CHUNKS_MAX + 3 * limits.COLUMNS_MAX)
        with _open_file(body) as file:
            plan = _plan_read(body, file.metadata, groups, columns_max, max_bytes)
            has_int96 = any(file.schema.column(i).physical_type == "INT96" for i in range(file.metadata.num_columns))
        with _open_file(body, plan.dictionary_columns) as file:
            if not has_int96:
                yield from _read_file(file, columns, plan)
                return
            with _open_file(body, plan.dictionary_columns, int96_unit="us") as other:
                names = _overflowing(_read_file(file, columns, plan), _read_file(other, columns, plan))
                for one, two in zip(_read_file(file, columns, plan), _read_file(other, columns, plan), strict=True):
                    found = {name: (two if name in names else one).column(name) for name in one.schema.names}
                    yield pa.RecordBatch.from_arrays(list(found.values()), names=list(found))
    except _READ_ERRORS as exc:
        raise Malformed(f"the body is not a readable Parquet file: {exc}") from exc


def merge_int96(nanoseconds: pa.Table, microseconds: pa.Table) -> pa.Table:
    """Returns columns that are right: Arrow wraps timestamps of 96 bits into another century if their nanoseconds overflow 64 bits."""
    found = [one if _fits(other, one.type) else other for one, other in zip(nanoseconds.columns, microseconds.columns, strict=True)]
    return pa.table(found, names=nanoseconds.column_names)


def _overflowing(nanoseconds: Iterator[pa.RecordBatch], microseconds: Iterator[pa.RecordBatch]) -> set[str]:
    """Returns the columns that Arrow reads wrongly: it wraps timestamps of 96 bits into another century if they overflow as nanoseconds."""
    return {
        name
        for one, two in zip(nanoseconds, microseconds, strict=True)
        for name in one.schema.names
        if not _fits(two.column(name), one.column(name).type)
    }


def _fits(column: pa.Array | pa.ChunkedArray, kind: pa.DataType) -> bool:  # type: ignore[type-arg]
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _open_file(
    body: bytes | mmap.mmap, read_dictionary: list[str] | None = None, int96_unit: Literal["us"] | None = None
) -> pq.ParquetFile:
    # Limit of the elements of a list, which Arrow allocates before it reads any. A nested column has three elements in the schema.
    limit = 4 * limits.COLUMNS_MAX
    return pq.ParquetFile(
        pa.BufferReader(body),
        read_dictionary=read_dictionary,
        thrift_container_size_limit=limit,
        coerce_int96_timestamp_unit=int96_unit,
    )


def _read_file(file: pq.ParquetFile, columns: Iterable[str] | None, plan: ReadPlan) -> Iterator[pa.RecordBatch]:
    schema, rows = file.schema_arrow, file.metadata.num_rows
    wanted = set(schema.names if columns is None else columns)
    kept = pa.schema([field for field in schema if field.name in wanted])
    if not kept.names:
        yield batch_of_columns([], kept, rows)
        return
    groups = range(file.num_row_groups)
    found, size = 0, 0
    # A dictionary belongs to one row group, and a list column of a batch cannot have two of them.
    for batch in chain.from_iterable(
        file.iter_batches(plan.batch_rows, row_groups=each, columns=None if columns is None else kept.names, use_threads=False)
        for each in ([[i] for i in groups] if plan.dictionary_columns else [list(groups)])
    ):
        batch.validate()
        size += expanded_size(batch.columns) + _ARRAY_BYTES * batch.num_columns
        limits.check_expanded_size(0, size, plan.max_bytes)
        batch.validate(full=True)
        found += batch.num_rows
        # For the name "a" Arrow reads "a.b" as well.
        yield batch.select([i for i, name in enumerate(batch.schema.names) if name in wanted])
    if found != rows:
        raise ValueError("the columns have another number of rows than the file declares")
    if not rows:
        yield pa.RecordBatch.from_pylist([], schema=kept)


def _plan_read(
    body: bytes | mmap.mmap, metadata: pq.FileMetaData, groups: Sequence[footer.RowGroup], columns_max: int, max_bytes: int | None
) -> ReadPlan:
    """Decides how to read the file, by its footer and the headers of its pages. pyarrow's own chunk metadata is not used; see `footer`.

    Raises:
        TooLarge: The file expands to more than a request may hold.
        ValueError: The parts of the file contradict each other.
    """
    _check_writer(metadata.created_by or "")
    width, rows = metadata.num_columns, metadata.num_rows
    if not width and not rows:
        raise ValueError("it has neither columns nor a number of rows, which some writers omit then; send another media type")
    limits.check_column_count(width, columns_max)
    if len(groups) * max(1, width) > _CHUNKS_MAX:
        raise TooLarge(f"a Parquet file may have {_CHUNKS_MAX} columns in all row groups together; send larger row groups")
    limits.check_expanded_size(rows if max_bytes is None else 0, 0)
    if metadata.num_row_groups != len(groups) or any(len(group.chunks) != width for group in groups):
        raise ValueError("a row group has other columns than the schema")
    if sum(group.rows for group in groups) != rows:
        raise ValueError("the row groups have another number of rows than the file declares")
    columns = [metadata.schema.column(i) for i in range(width)]
    budget = ReadBudget(rows, columns, max_bytes)
    for group in groups:
        for column, chunk in zip(columns, group.chunks, strict=True):
            _add_pages(body, group.rows, column, chunk, budget)
            if isinstance(body, mmap.mmap):
                body.madvise(mmap.MADV_DONTNEED)  # the kernel maps up to 2 MiB around each header
    return budget.read_plan()


def _add_pages(body: bytes | mmap.mmap, rows: int, column: pq.ColumnSchema, chunk: footer.ColumnChunk, budget: ReadBudget) -> None:
    """Adds the pages of one column in one row group to the budget."""
    values, levels = 0, (column.max_repetition_level > 0) + (column.max_definition_level > 0)
    for page in _pages(body, chunk):
        budget.add_page(page, column)
        values += page.values
        if page.encoding in (pages.DELTA_LENGTH_BYTE_ARRAY, pages.DELTA_BYTE_ARRAY):
            delta_lengths.check_delta_lengths(body, page, chunk.codec, levels)
    if values < rows or (values > rows and column.max_repetition_level == 0):
        raise ValueError("a column has another number of rows than its row group")


def _pages(body: bytes | mmap.mmap, chunk: footer.ColumnChunk) -> Iterator[pages.PageHeader]:
    """Yields the page headers of one column in one row group, exactly where Arrow looks for them."""
    at, end = chunk.start, chunk.start + chunk.size
    if chunk.start < 0 or chunk.size < 0 or end > len(body):
        raise ValueError("a column extends beyond the end of the file")
    while at < end:
        page = pages.read_page_header(body, at)
        if page.end > end:
            raise ValueError("a page extends beyond the end of its column")
        yield page
        at = page.end


def _check_writer(created_by: str) -> None:
    """Refuses files of a very old writer: Arrow reads beyond the pages of their columns (PARQUET-816), which are not checked here.

    Raises:
        ValueError: The file names that writer.
    """
    if "parquet-mr" not in created_by.lower():
        return
    found = _PARQUET_MR.fullmatch(created_by)
    if found is None or tuple(map(int, found.groups())) < (1, 2, 9):
        raise ValueError("files of parquet-mr before 1.2.9 are not supported")


_PARQUET_MR = re.compile(r"parquet-mr version (\d{1,3})\.(\d{1,3})\.(\d{1,3})(?:[-+.]\S*)?(?: \(build [^()]*\))?")
