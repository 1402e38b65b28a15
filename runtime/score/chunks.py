"""Chunks: consecutive rows of one input file, which are decoded as a request's body is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Self

import pyarrow as pa

from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.rows import Rows


class Chunk(ABC):
    """Some rows of one file.

    Attributes:
        first_row: Number of its first row in the file.
        count: Number of its rows.
        size_bytes: Bytes that it takes in memory.
        weight: The bytes of the file that it stands for, for the progress.
    """

    first_row: int
    count: int
    size_bytes: int
    weight: float

    @abstractmethod
    def decode(self, decoder: RowDecoder, start: int, stop: int) -> Rows:
        """Returns rows `start` to `stop` of it.

        Raises:
            PexdockError: A row is not valid, or does not fit the schema. Its cells count from `start`.
        """

    @classmethod
    @abstractmethod
    def join(cls, chunks: Sequence[Self]) -> Self:
        """Returns consecutive chunks as one."""


class TableChunk(Chunk):
    """Rows of an Arrow table."""

    def __init__(self, first_row: int, table: pa.Table, weight: float) -> None:
        self.first_row, self.count, self.weight = first_row, table.num_rows, weight
        self.size_bytes = table.nbytes
        self._table = table

    def decode(self, decoder: RowDecoder, start: int, stop: int) -> Rows:
        """Returns rows `start` to `stop` of it."""
        return decoder.from_table(self._table.slice(start, stop - start))

    @classmethod
    def join(cls, chunks: Sequence[Self]) -> Self:
        """Returns consecutive chunks as one."""
        table = pa.concat_tables([each._table for each in chunks])  # noqa: SLF001 - of its own class
        return cls(chunks[0].first_row, table, sum(each.weight for each in chunks))


class TextChunk(Chunk):
    """Records of a text.

    Args:
        first_row: Number of its first row in the file.
        records: The text of each row.
        read: Decodes a body of such records.
        header: The text before the first record of a body.
    """

    def __init__(self, first_row: int, records: list[bytes], read: Callable[[RowDecoder, bytes], Rows], header: bytes = b"") -> None:
        self.first_row, self.count = first_row, len(records)
        self.size_bytes = sum(map(len, records))
        self.weight = self.size_bytes
        self._records, self._read, self._header = records, read, header

    def decode(self, decoder: RowDecoder, start: int, stop: int) -> Rows:
        """Returns rows `start` to `stop` of it."""
        return self._read(decoder, self._header + b"".join(self._records[start:stop]))

    @classmethod
    def join(cls, chunks: Sequence[Self]) -> Self:
        """Returns consecutive chunks as one."""
        first = chunks[0]
        records = [record for each in chunks for record in each._records]  # noqa: SLF001 - of its own class
        return cls(first.first_row, records, first._read, first._header)  # noqa: SLF001 - likewise
