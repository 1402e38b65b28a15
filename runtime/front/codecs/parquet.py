"""Parquet files → tables.

Arrow's reader believes what a file says: it makes room for a page as large as its header claims, and for as many values as it names. So
each page's header is read here first, and what would be too much is refused before anything is expanded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import Malformed, TooLarge
from runtime.front.codecs import columnar, footer
from runtime.front.codecs import page as pages

_STEP_ROWS = 16_384
"""Rows that are expanded before they are weighed."""

_CHUNKS_MAX = 100_000
"""Columns of all row groups together. Each takes 20 µs, however little is in it."""

_PAGES_MAX = 200_000
"""Of all columns. Each takes 10 µs."""

_NESTED_VALUES_MAX = 32 * 1024**2
"""Values in lists: each takes eight bytes of room while it is read, whatever it is."""

_STEP_MAX_BYTES = columnar.EXPANDED_MAX_BYTES // 16
"""What may come at once of values that stand for many. Room for texts doubles as it grows."""


_FAULTS = (pa.ArrowException, OSError, EOFError, ValueError, MemoryError, RuntimeError)
"""What Arrow's reader of Parquet raises; the last where something that is optional cannot be."""


def table(body: bytes, columns: Iterable[str] | None) -> pa.Table:
    """The table of a Parquet file; of these columns, of which none need be there.

    Raises:
        Malformed: the body is not a Parquet file.
        TooLarge: it holds more than it may.
    """
    try:
        chunks = footer.chunks(body, _CHUNKS_MAX + 3 * columnar.COLUMNS_MAX)
        with _opened(body) as file:
            weight = _weighed(body, file.metadata, chunks)
            if not weight.shared:
                return _read(file, columns, weight)
        with _opened(body, weight.shared) as file:
            return _read(file, columns, weight)
    except _FAULTS as exc:
        raise Malformed(f"the body is not a Parquet file that can be read: {exc}") from exc


def _opened(body: bytes, read_dictionary: list[str] | None = None) -> pq.ParquetFile:
    limit = 4 * columnar.COLUMNS_MAX  # of elements of a list, for which room is made before any is there; a list takes three of a schema
    return pq.ParquetFile(pa.BufferReader(body), read_dictionary=read_dictionary, thrift_container_size_limit=limit)


def _read(file: pq.ParquetFile, columns: Iterable[str] | None, weight: _Weight) -> pa.Table:
    schema = file.schema_arrow
    names = schema.names if columns is None else [name for name in columns if name in schema.names]
    step = max(1, min(_STEP_ROWS, _STEP_MAX_BYTES // max(1, weight.row_bytes)))
    groups = range(file.num_row_groups)
    batches, size = [], 0
    # What is shared is so within a row group, and a batch cannot have two of it in a list.
    for batch in chain.from_iterable(
        file.iter_batches(step, row_groups=each, columns=names, use_threads=False)
        for each in ([[i] for i in groups] if weight.shared else [list(groups)])
    ):
        batch.validate(full=True)
        size += batch.nbytes + sum(columnar.shared_bytes(column) for column in batch.columns)
        columnar.check_size(0, size)
        batches.append(batch)
    # Without columns there are rows all the same, which a table of columns alone forgets.
    found = pa.Table.from_batches(batches, pa.schema([schema.field(name) for name in names]))
    return found if names else pa.table({"": pa.nulls(file.metadata.num_rows)})


class _Weight(NamedTuple):
    """What reading a file can take.

    Attributes:
        row_bytes: at most, for one row, of values that are told by others.
        shared: columns that are to be read as indices into what they share, since that may be too large where each has its own.
    """

    row_bytes: int
    shared: list[str]


class _Scales:
    """Adds up what the pages of a file say of themselves; `words` and `deltas` have the longest page of each column whose values do so."""

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._bytes = self._pages = self._values = 0
        self._words: dict[str, int] = {}
        self._words_in_lists: set[str] = set()
        self._deltas: dict[str, int] = {}
        self._counted: dict[str, int] = {}  # values of a column's pages, of which the file may say that they are fewer rows

    def add(self, page: pages.Page, column: pq.ColumnSchema) -> None:
        """One page more.

        Raises:
            TooLarge: it is too much.
        """
        nested, text = column.max_repetition_level > 0, column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY")
        self._pages += 1
        self._counted[column.path] = self._counted.get(column.path, 0) + (0 if nested else page.values)
        self._bytes += page.expanded_bytes
        self._values += page.values if nested else 0
        columnar.check_size(0, max(self._bytes, page.values * page.expanded_bytes if nested and page.is_delta else 0))
        if self._pages > _PAGES_MAX or self._values > _NESTED_VALUES_MAX:
            raise TooLarge(f"a Parquet file may have {_PAGES_MAX} pages, and {_NESTED_VALUES_MAX} values in lists")
        if text and page.is_delta:
            self._deltas[column.path] = max(self._deltas.get(column.path, 0), page.expanded_bytes)
        elif text and page.is_dictionary:
            self._words[column.path] = max(self._words.get(column.path, 0), page.expanded_bytes)
            if nested:
                self._words_in_lists.add(column.path)

    def weight(self) -> _Weight:
        """Of all pages. As many values as a list has stand in one row; of all others there are as many as there are rows."""
        many = max(self._rows, *self._counted.values(), 0) * sum(self._words.values()) > columnar.EXPANDED_MAX_BYTES
        return _Weight(sum(self._deltas.values()), sorted(self._words if many else self._words_in_lists))


def _weighed(body: bytes, about: pq.FileMetaData, chunks: Sequence[Sequence[footer.Chunk]]) -> _Weight:
    """By what the file says, and what each of its pages does. Its chunks are not asked for here, see `footer`.

    Raises:
        TooLarge: that is more than it may hold.
    """
    _check_writer(about.created_by or "")
    groups, width = len(chunks), about.num_columns
    columnar.check_columns(width)
    if groups * max(1, width) > _CHUNKS_MAX:
        raise TooLarge(f"a Parquet file may have {_CHUNKS_MAX} columns in all of its row groups; send larger ones")
    columnar.check_size(about.num_rows, 0)
    scales, columns = _Scales(about.num_rows), [about.schema.column(i) for i in range(width)]
    if about.num_row_groups != groups or any(len(group) != width for group in chunks):
        raise ValueError("a row group of other columns than the schema's")
    for group in chunks:
        for column, chunk in zip(columns, group, strict=True):
            for page in _pages(body, chunk):
                scales.add(page, column)
    return scales.weight()


def _pages(body: bytes, chunk: footer.Chunk) -> Iterator[pages.Page]:
    """Those of one column in one row group, just where Arrow looks for them."""
    at, end = chunk.start, chunk.start + chunk.size
    if chunk.start < 0 or chunk.size < 0 or end > len(body):
        raise ValueError("a column beyond the end of the file")
    while at < end:
        page = pages.read(body, at)
        yield page
        at = page.body + page.compressed_bytes


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
