"""Reads input files in chunks: Parquet by row groups, Arrow by record batches, CSV and NDJSON by records. Blocks.

A file is divided into parts, whose results are files of their own. Where a part begins is known from the footer of a Parquet file; for the
other formats it is known once the part before it was read, and the journal keeps it.
"""

from __future__ import annotations

import csv
import io
import sys
from abc import ABC, abstractmethod
from codecs import BOM_UTF8
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from base.errors import Malformed, PexdockError, UnsupportedMedia
from runtime.front.codecs.arrow.whole_files import batches_of_stream, read_fully, require_one_file
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.parquet.footer import check_single_file
from runtime.front.codecs.parquet.reader import merge_int96
from runtime.front.codecs.rows import Rows
from runtime.score.chunks import Chunk, TableChunk, TextChunk
from runtime.score.places import InputFile
from runtime.score.records import BLOCK_BYTES, NoRecord, read_csv_records, read_lines


@dataclass(frozen=True)
class ReadLimits:
    """The sizes in which files are read.

    Attributes:
        batch_rows: Limit of the rows of a chunk.
        batch_max_bytes: Limit of its bytes, unless one row takes more.
        part_rows: Rows after which a part ends, at the next place where one may.
    """

    batch_rows: int
    batch_max_bytes: int
    part_rows: int

    def in_one_part(self) -> ReadLimits:
        """Returns the same limits with one part for the whole file."""
        return replace(self, part_rows=sys.maxsize)

    def rows_of(self, rows: int, size_bytes: int) -> int:
        """Returns the rows of a chunk of a table that has `rows` rows in `size_bytes`."""
        return max(1, min(self.batch_rows, self.batch_max_bytes * max(1, rows) // max(1, size_bytes)))


class PartStart(msgspec.Struct, frozen=True):
    """The beginning of a part.

    Attributes:
        number: Number of the part in its file.
        at: Its row group, record batch, or byte in the file.
        first_row: Number of its first row in the file.
    """

    number: int = 0
    at: int = 0
    first_row: int = 0


class FileReader(ABC):
    """Reads one file.

    Args:
        file: The file.
        decoder: Decodes its rows.
        limits: The sizes in which it is read.

    Attributes:
        next_part: The part behind the one that was read last; None if there is none.

    Raises:
        PexdockError: The file is damaged, or lacks a column.
        OSError: The file cannot be read.
    """

    next_part: PartStart | None = None

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        self.file = file
        self._decoder = decoder
        self._limits = limits

    def parts(self) -> list[PartStart] | None:
        """Returns all parts; None if each is known only after the one before it."""
        return None

    @abstractmethod
    def read_part(self, start: PartStart) -> Generator[Chunk]:
        """Yields the rows of a part.

        Raises:
            PexdockError: The file is damaged.
            OSError: The file cannot be read.
        """


class ParquetFileReader(FileReader):
    """Reads a Parquet file. Several parts may be read at the same time."""

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        super().__init__(file, decoder, limits)
        with _reading(file), file.open() as content:
            parquet = pq.ParquetFile(pa.PythonFile(content, "r"))
            self._metadata, schema = parquet.metadata, parquet.schema_arrow
            leaves = [self._metadata.schema.column(i) for i in range(self._metadata.num_columns)]
            self._has_int96 = any(leaf.physical_type == "INT96" for leaf in leaves)
            self._require_one_file(content)
        wanted = decoder.column_names
        names = [name for name in schema.names if wanted is None or name in wanted] or schema.names[:1]
        self._columns = list(dict.fromkeys(names))
        _require_columns(file, decoder, schema.empty_table())
        self._groups: list[list[int]] = [[]]
        self._starts = [PartStart()]
        rows = in_part = 0
        for group in range(self._metadata.num_row_groups):
            if in_part >= limits.part_rows:
                self._starts.append(PartStart(len(self._groups), group, rows))
                self._groups.append([])
                in_part = 0
            self._groups[-1].append(group)
            group_rows = self._metadata.row_group(group).num_rows
            rows, in_part = rows + group_rows, in_part + group_rows

    def _require_one_file(self, content: io.RawIOBase) -> None:
        """Raises Malformed if another file stands before this one: Arrow would read that one's rows by this one's footer, or none."""
        groups, footer_at = self._metadata.num_row_groups, self.file.size - _PARQUET_TAIL_BYTES - self._metadata.serialized_size
        end = _PARQUET_MAGIC_BYTES
        if groups:
            last = self._metadata.row_group(groups - 1)
            end = max((_end_of(last.column(i)) for i in range(last.num_columns)), default=end)
        content.seek(0)
        try:
            check_single_file(read_fully(content, footer_at - end), footer_at - end)
        except ValueError as exc:
            raise Malformed(f"{self.file.name} cannot be read: {exc}") from exc

    def parts(self) -> list[PartStart]:
        """Returns all parts: row groups, of which small ones share a part."""
        return self._starts

    def read_part(self, start: PartStart) -> Generator[Chunk]:
        """Yields the rows of a part."""
        groups = [self._metadata.row_group(i) for i in self._groups[start.number]]
        rows = sum(group.num_rows for group in groups)
        weight_of_row = self.file.size / max(1, self._metadata.num_rows)
        batch_rows = min(max(1, rows), self._limits.rows_of(rows, sum(group.total_byte_size for group in groups)))
        first_row = start.first_row
        with _reading(self.file), self.file.open() as content, self.file.open() as again:
            batches = self._batches(content, start.number, batch_rows)
            if self._has_int96:
                coarse = self._batches(again, start.number, batch_rows, coerce_int96_timestamp_unit="us")
                batches = (merge_int96(*each) for each in zip(batches, coarse, strict=True))
            for table in batches:
                yield TableChunk(first_row, table, table.num_rows * weight_of_row)
                first_row += table.num_rows

    def _batches(self, content: io.RawIOBase, part: int, batch_rows: int, **options: Any) -> Iterator[pa.Table]:
        # A remote file is read with as few requests as possible, a local one with little memory.
        buffered = {"pre_buffer": True} if self.file.store is not None else {"buffer_size": BLOCK_BYTES}
        native = pa.PythonFile(content, "r") if self.file.store is not None else pa.OSFile(self.file.name, "rb")
        with native:
            parquet = pq.ParquetFile(native, metadata=self._metadata, **buffered, **options)
            groups = self._groups[part]
            for batch in parquet.iter_batches(batch_rows, row_groups=groups, columns=self._columns, use_threads=False):
                batch.validate(full=True)
                # For the name "a" Arrow reads "a.b" as well.
                yield pa.Table.from_batches([batch.select([name for name in batch.schema.names if name in self._columns])])


class ArrowFileReader(FileReader):
    """Reads an Arrow file, or an Arrow stream."""

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        super().__init__(file, decoder, limits)
        with _reading(file), file.open() as content:
            schema = self._open(content)[0]
        _require_columns(file, decoder, schema.empty_table())

    @staticmethod
    def _open(content: io.RawIOBase) -> tuple[pa.Schema, Callable[[int], Iterator[pa.RecordBatch]]]:
        """Returns the schema, and a function that yields the record batches from one on."""
        magic = content.read(6)
        content.seek(0)
        native = pa.PythonFile(content, "r")
        if magic == b"ARROW1":
            file = pa.ipc.open_file(native)
            require_one_file(content)
            return file.schema, lambda at: (file.get_batch(i) for i in range(at, file.num_record_batches))
        stream = pa.ipc.open_stream(native)
        return stream.schema, lambda at: batches_of_stream(native, stream, at)

    def read_part(self, start: PartStart) -> Generator[Chunk]:
        """Yields the rows of a part: whole record batches."""
        self.next_part, rows = None, 0
        with _reading(self.file), self.file.open() as content:
            batches = self._open(content)[1](start.at)
            for at, batch in enumerate(batches, start.at):
                if rows >= self._limits.part_rows:
                    self.next_part = PartStart(start.number + 1, at, start.first_row + rows)
                    return
                batch.validate(full=True)
                count = self._limits.rows_of(batch.num_rows, batch.nbytes)
                for begin in range(0, batch.num_rows, count):
                    table = pa.Table.from_batches([batch.slice(begin, count)])
                    yield TableChunk(start.first_row + rows, table, table.nbytes)
                    rows += table.num_rows


class TextFileReader(FileReader):
    """Reads the records of a text, which the subclass divides."""

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        super().__init__(file, decoder, limits)
        self._header = b""

    def read_part(self, start: PartStart) -> Generator[Chunk]:
        """Yields the rows of a part."""
        limits, self.next_part = self._limits, None
        row, at = start.first_row, start.at or len(self._header)
        with _reading(self.file), self.file.open() as content:
            content.seek(at)
            records, size = list[bytes](), 0
            try:
                for record in self._records(content):
                    if not self._is_blank(record):
                        if records and (len(records) >= limits.batch_rows or size + len(record) > limits.batch_max_bytes):
                            yield TextChunk(row, records, self._decode, self._header)
                            row, records, size = row + len(records), [], 0
                            if row - start.first_row >= limits.part_rows:
                                self.next_part = PartStart(start.number + 1, at, row)
                                return
                        records.append(record)
                        size += len(record)
                    at += len(record)
            except NoRecord as exc:
                raise exc.at(f"row {row + len(records)} of {self.file.name}") from exc
            if records:
                yield TextChunk(row, records, self._decode, self._header)

    @staticmethod
    @abstractmethod
    def _decode(decoder: RowDecoder, body: bytes) -> Rows:
        """Decodes a body of such records."""

    def _records(self, content: io.RawIOBase) -> Iterator[bytes]:
        """Yields the text of each record, with its line end."""
        return read_lines(content, self._record_max_bytes)

    @property
    def _record_max_bytes(self) -> int:
        return max(_RECORD_MAX_BYTES, self._limits.batch_max_bytes)

    def _is_blank(self, record: bytes) -> bool:
        """Returns whether a line is no row."""
        return not record.strip()


class NdjsonFileReader(TextFileReader):
    """Reads an NDJSON file."""

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        super().__init__(file, decoder, limits)
        with _reading(file), file.open() as content:
            if content.read(len(BOM_UTF8)) == BOM_UTF8:
                raise Malformed(f"{file.name} begins with a byte order mark, which is not JSON; write it as UTF-8 without one")

    @staticmethod
    def _decode(decoder: RowDecoder, body: bytes) -> Rows:
        return decoder.from_ndjson(body)


class CsvFileReader(TextFileReader):
    """Reads a CSV file with a header."""

    def __init__(self, file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> None:
        super().__init__(file, decoder, limits)
        self._columns = 0
        try:
            with _reading(file), file.open() as content:
                self._header = next(self._records(content), b"")
            decoder.from_csv(self._header)
        except NoRecord as exc:
            raise exc.at(f"the header of {file.name}") from exc
        except PexdockError as exc:
            raise exc.copy_for_caller(detail=f"{file.name}: {exc.detail}") from exc
        self._columns = len(next(csv.reader(io.StringIO(self._header.decode("utf-8-sig")), strict=True)))
        if not self._header.endswith((b"\n", b"\r")):
            self._header += b"\n"

    @staticmethod
    def _decode(decoder: RowDecoder, body: bytes) -> Rows:
        return decoder.from_csv(body)

    def _records(self, content: io.RawIOBase) -> Iterator[bytes]:
        return read_csv_records(content, self._record_max_bytes, self._columns)

    def _is_blank(self, record: bytes) -> bool:
        # By the rules of `codecs.csv`, an empty line is a null if there is one column.
        return self._columns > 1 and not record.strip(b"\r\n")


def _end_of(chunk: pq.ColumnChunkMetaData) -> int:
    return int((chunk.dictionary_page_offset or chunk.data_page_offset) + chunk.total_compressed_size)


_PARQUET_MAGIC_BYTES, _PARQUET_TAIL_BYTES = 4, 8
"""A file begins with PAR1, and ends with the length of its footer and PAR1."""

_RECORD_MAX_BYTES = 1024**2

_READERS: dict[str, type[FileReader]] = {
    ".parquet": ParquetFileReader,
    ".arrow": ArrowFileReader,
    ".feather": ArrowFileReader,
    ".csv": CsvFileReader,
    ".ndjson": NdjsonFileReader,
    ".jsonl": NdjsonFileReader,
}


def open_reader(file: InputFile, decoder: RowDecoder, limits: ReadLimits) -> FileReader:
    """Returns the reader for the ending of a file's name.

    Raises:
        UnsupportedMedia: No format has this ending.
        PexdockError, OSError: As `FileReader`.
    """
    return reader_kind(file)(file, decoder, limits)


def reader_kind(file: InputFile) -> type[FileReader]:
    """Returns the reader for the ending of a file's name, as `open_reader`."""
    kind = next((kind for ending, kind in _READERS.items() if file.name.lower().endswith(ending)), None)
    if kind is None:
        raise UnsupportedMedia(f"the name of {file.name} must end in one of {', '.join(_READERS)}")
    return kind


def _require_columns(file: InputFile, decoder: RowDecoder, empty: pa.Table) -> None:
    """Raises the error of a table without rows, such as that of a missing column."""
    try:
        decoder.from_table(empty)
    except PexdockError as exc:
        raise exc.copy_for_caller(detail=f"{file.name}: {exc.detail}") from exc


@contextmanager
def _reading(file: InputFile) -> Iterator[None]:
    """Turns errors of the libraries about a damaged file into Malformed, with its name."""
    try:
        yield
    except (pa.ArrowException, OSError) as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise Malformed(f"{file.name} is damaged: {exc}") from exc
