"""Limits the memory and time that reading a Parquet file can take, by the headers of its pages."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.parquet as pq

from base.errors import TooLarge
from runtime.front.codecs.parquet import page_header as pages
from runtime.front.codecs.values import limits

_BATCH_ROWS = 16_384
"""Maximum number of rows that are expanded before their size is checked."""

_BATCH_BYTES = 16 * 1024**2
"""Maximum bytes of one batch of delta-encoded texts. Arrow's buffer for texts doubles as it grows."""

_BATCH_FIXED_BYTES = 64 * 1024**2
"""Maximum bytes of one batch of values of fixed size, which nulls take as well."""

_BATCHES_MAX = 100_000
"""Maximum number of batches in which a file is read. Each takes 0.1 ms and more."""

_VALUE_BYTES, _DICTIONARY_ENTRY_BYTES = 16, 24
"""Bytes that a value takes while it is read, and that a text of a dictionary takes besides its characters."""

_PAGES_MAX = 200_000
"""Maximum number of pages of all columns. Each takes 10 µs."""

_STEPS_MAX = 8_000_000
"""Maximum number of values in the headers of all pages: forty for each page, which take four seconds."""

_VALUES_MAX = 1024**3
"""Maximum number of values of all columns; nulls take no memory, and only a nanosecond or two each."""

_NESTED_VALUES_MAX = 32 * 1024**2
"""Maximum number of values in lists: each takes eight bytes while it is read, regardless of its type."""


class ReadPlan(NamedTuple):
    """The way to read a file within its limits.

    Attributes:
        batch_rows: Maximum number of rows that are read at once.
        dictionary_columns: Columns that must be read as indices into their dictionaries, since their expanded values may be too large.
        max_bytes: Limit of the expanded bytes of all rows; None for that of a file that is read at once.
    """

    batch_rows: int
    dictionary_columns: list[str]
    max_bytes: int | None


class ReadBudget:
    """Adds up the sizes in a file's page headers, and keeps the longest dictionary and delta-encoded page of each column.

    Args:
        rows: Number of rows of the file.
        columns: Its columns, in their order.
        max_bytes: Limit of the expanded bytes of all rows; None for that of a file that is read at once.

    Raises:
        TooLarge: A single row can take too much memory.
    """

    def __init__(self, rows: int, columns: list[pq.ColumnSchema], max_bytes: int | None) -> None:
        self._rows = rows
        self._max_bytes = max_bytes
        self._bytes = self._pages = self._steps = self._values = self._nested = 0
        self._largest_pages: dict[tuple[str, bool], int] = {}
        self._value_bytes: dict[str, int] = {}  # the most of a value, averaged over a page
        self._nested_bytes = 0
        self._dictionaries: dict[str, int] = {}
        self._dictionaries_in_lists: set[str] = set()
        self._dictionary_entries: dict[str, int] = {}
        self._deltas: dict[str, int] = {}
        self._fixed_bytes = sum(_fixed_bytes(each) for each in columns)
        limits.check_expanded_size(0, self._fixed_bytes if rows else 0)

    def add_page(self, page: pages.PageHeader, column: pq.ColumnSchema) -> None:
        """Adds one page.

        Raises:
            TooLarge: The file is too large with this page.
        """
        nested = column.max_repetition_level > 0
        self._pages += 1
        self._steps += page.steps
        self._values += page.values
        self._nested += page.values if nested else 0
        self._bytes += page.expanded_bytes
        self._dictionary_entries[column.path] = max(self._dictionary_entries.get(column.path, 0), page.dictionary_entries)
        key = column.path, bool(page.dictionary_entries)
        self._largest_pages[key] = max(self._largest_pages.get(key, 0), page.expanded_bytes)
        if nested:
            self._nested_bytes += page.expanded_bytes
        elif page.values:
            self._value_bytes[column.path] = max(self._value_bytes.get(column.path, 0), -(-page.expanded_bytes // page.values))
        room = page.values * max(page.expanded_bytes if page.is_delta else 0, _fixed_bytes(column)) if nested else 0
        limits.check_expanded_size(0, room)
        limits.check_expanded_size(0, self._bytes + _DICTIONARY_ENTRY_BYTES * self._dictionary_entries[column.path], self._max_bytes)
        self._check_counts()
        if column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            self._record_longest(page, column.path, nested)

    def _check_counts(self) -> None:
        if self._pages > _PAGES_MAX or self._steps > _STEPS_MAX or self._nested > _NESTED_VALUES_MAX or self._values > _VALUES_MAX:
            allowed = f"{_PAGES_MAX} pages and {_VALUES_MAX} values, of which {_NESTED_VALUES_MAX} in lists"
            raise TooLarge(f"a Parquet file may have {allowed}; send fewer rows at once")

    def _record_longest(self, page: pages.PageHeader, path: str, nested: bool) -> None:
        if page.is_delta:
            self._deltas[path] = max(self._deltas.get(path, 0), page.expanded_bytes)
        elif page.dictionary_entries:
            self._dictionaries[path] = max(self._dictionaries.get(path, 0), page.expanded_bytes)
            if nested:
                self._dictionaries_in_lists.add(path)

    def read_plan(self) -> ReadPlan:
        """Returns the way to read all pages. A row may hold all values of a list; other columns have one value per row.

        Raises:
            TooLarge: The pages are too large together.
        """
        limits.check_expanded_size(0, self._bytes + _DICTIONARY_ENTRY_BYTES * sum(self._dictionary_entries.values()), self._max_bytes)
        limits.check_expanded_size(0, sum(self._largest_pages.values()))  # a page of each column is in memory at a time
        may_expand = self._rows * sum(self._dictionaries.values()) > limits.EXPANDED_MAX_BYTES
        batch_rows = min(_BATCH_ROWS, _BATCH_BYTES // max(1, sum(self._deltas.values())), _BATCH_FIXED_BYTES // max(1, self._fixed_bytes))
        if self._max_bytes is not None:
            batch_rows = min(batch_rows, _BATCH_FIXED_BYTES // max(1, sum(self._value_bytes.values())))
            limits.check_expanded_size(0, self._nested_bytes)  # a row may hold all of them
            if self._rows > _BATCHES_MAX * max(1, batch_rows):
                raise TooLarge("a Parquet file may have no rows that are so much larger than others; send them as Arrow")
        return ReadPlan(max(1, batch_rows), sorted(self._dictionaries if may_expand else self._dictionaries_in_lists), self._max_bytes)


def _fixed_bytes(column: pq.ColumnSchema) -> int:
    """Returns the bytes that one value takes while it is read, even if it is null, without the characters of texts."""
    length = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
    return max(_VALUE_BYTES, length or 0)
