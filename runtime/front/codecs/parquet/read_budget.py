"""What reading a Parquet file can take, as its pages say of themselves."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow.parquet as pq

from base.errors import TooLarge
from runtime.front.codecs.parquet import page_header as pages
from runtime.front.codecs.values import limits

_STEP_ROWS = 16_384
"""Rows that are expanded before they are weighed."""

_STEP_BYTES = 16 * 1024**2
"""What may come at once of values that stand for many. Room for texts doubles as it grows."""

_STEP_NULLS_BYTES = 64 * 1024**2
"""What the values of one step may take that take the same whether they are there or not."""

_VALUE_BYTES, _WORD_BYTES = 16, 24
"""That a value takes while it is read, and a text of a dictionary beside itself, however short it is."""

_PAGES_MAX = 200_000
"""Of all columns. Each takes 10 µs."""

_STEPS_MAX = 8_000_000
"""Values in the headers of all pages: four seconds' work, and forty for each page."""

_VALUES_MAX = 1024**3
"""Of all columns; nulls take no room, and a nanosecond or two."""

_NESTED_VALUES_MAX = 32 * 1024**2
"""Values in lists: each takes eight bytes of room while it is read, whatever it is."""


class ReadPlan(NamedTuple):
    """What reading a file can take.

    Attributes:
        step_rows: rows that may be read at once.
        shared: columns that are to be read as indices into what they share, since that may be too large where each has its own.
    """

    batch_rows: int
    dictionary_columns: list[str]


class ReadBudget:
    """Adds up what the pages of a file say of themselves; of each column whose values stand for others it keeps the longest page.

    Args:
        rows: of the file.
        columns: its columns, in their order.

    Raises:
        TooLarge: a row can take too much.
    """

    def __init__(self, rows: int, columns: list[pq.ColumnSchema]) -> None:
        self._rows = rows
        self._bytes = self._pages = self._steps = self._values = self._nested = 0
        self._words: dict[str, int] = {}
        self._words_in_lists: set[str] = set()
        self._most_words: dict[str, int] = {}
        self._deltas: dict[str, int] = {}
        self._fixed_bytes = sum(_fixed_bytes(each) for each in columns)
        limits.check_expanded_size(0, self._fixed_bytes if rows else 0)

    def add_page(self, page: pages.PageHeader, column: pq.ColumnSchema) -> None:
        """One page more.

        Raises:
            TooLarge: it is too much.
        """
        nested = column.max_repetition_level > 0
        self._pages += 1
        self._steps += page.steps
        self._values += page.values
        self._nested += page.values if nested else 0
        self._bytes += page.expanded_bytes
        self._most_words[column.path] = max(self._most_words.get(column.path, 0), page.words)
        room = page.values * max(page.expanded_bytes if page.is_delta else 0, _fixed_bytes(column)) if nested else 0
        limits.check_expanded_size(0, max(self._bytes + _WORD_BYTES * self._most_words[column.path], room))
        self._check_counts()
        if column.physical_type in ("BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"):
            self._keep(page, column.path, nested)

    def _check_counts(self) -> None:
        if self._pages > _PAGES_MAX or self._steps > _STEPS_MAX or self._nested > _NESTED_VALUES_MAX or self._values > _VALUES_MAX:
            raise TooLarge(f"a Parquet file may have {_PAGES_MAX} pages, {_VALUES_MAX} values, and {_NESTED_VALUES_MAX} of them in lists")

    def _keep(self, page: pages.PageHeader, path: str, nested: bool) -> None:
        if page.is_delta:
            self._deltas[path] = max(self._deltas.get(path, 0), page.expanded_bytes)
        elif page.words:
            self._words[path] = max(self._words.get(path, 0), page.expanded_bytes)
            if nested:
                self._words_in_lists.add(path)

    def read_plan(self) -> ReadPlan:
        """Of all pages. As many values as a list has stand in one row; of all others there are as many as there are rows.

        Raises:
            TooLarge: they are too much together.
        """
        limits.check_expanded_size(0, self._bytes + _WORD_BYTES * sum(self._most_words.values()))
        many = self._rows * sum(self._words.values()) > limits.EXPANDED_MAX_BYTES
        steps = min(_STEP_ROWS, _STEP_BYTES // max(1, sum(self._deltas.values())), _STEP_NULLS_BYTES // max(1, self._fixed_bytes))
        return ReadPlan(max(1, steps), sorted(self._words if many else self._words_in_lists))


def _fixed_bytes(column: pq.ColumnSchema) -> int:
    """What one value takes while it is read, be it there or not; without what texts have."""
    length = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 0
    return max(_VALUE_BYTES, length or 0)
