"""Writes the results of one part as a file. Blocks."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars import CompatLevel

from base.errors import BadResult, NotFound, UnsupportedMedia
from base.schema.wire import plain_schema
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat


class PartWriter(ABC):
    """Writes one file. Close it in any case.

    Args:
        file: The file, which must not exist.
        empty: A table without rows, whose columns the file has if nothing is written; None if these are not known.

    Attributes:
        rows: Rows that were written.
    """

    def __init__(self, file: Path, empty: pa.RecordBatch | None) -> None:
        self.rows = 0
        self._out = pa.OSFile(str(file), "wb")
        self._schema: pa.Schema | None = None
        self._empty = empty

    def write(self, batch: pa.RecordBatch) -> None:
        """Writes rows.

        Raises:
            BadResult: They have other columns than those before, or no form in this format.
            OSError: The file cannot be written.
        """
        if self._schema is None:
            self._schema = batch.schema
            self._begin(batch)
        elif not batch.schema.equals(self._schema):
            raise BadResult(
                f"two calls of the handler returned different columns, {_describe(self._schema)} and {_describe(batch.schema)}; "
                "declare the endpoint's output schema"
            )
        self._append(batch)
        self.rows += batch.num_rows

    def finish(self) -> bool:
        """Completes the file. Returns False, and does not, if it has no rows and nobody has said which columns these would have."""
        if self._empty is None and not self.rows:
            return False
        if self._schema is None and self._empty is not None:
            self.write(self._empty)
        self._end()
        self._out.close()
        return True

    def close(self) -> None:
        """Closes the file, complete or not. Idempotent."""
        with contextlib.suppress(OSError):  # an incomplete file is of no use
            self._out.close()

    @abstractmethod
    def _begin(self, batch: pa.RecordBatch) -> None:
        """Writes what comes before the first rows."""

    @abstractmethod
    def _append(self, batch: pa.RecordBatch) -> None:
        """Writes rows."""

    def _end(self) -> None:  # noqa: B027 - a text has no end
        """Writes what comes after the last rows."""


class _TableWriter(PartWriter):
    """Writes tables with plain Arrow types, which all readers know."""

    def __init__(self, file: Path, empty: pa.RecordBatch | None) -> None:
        super().__init__(file, empty)
        self._writer: Any = None
        self._held: list[pa.Table] = []
        self._held_rows = self._held_bytes = 0

    def _begin(self, batch: pa.RecordBatch) -> None:
        self._writer = self._open(_table(batch).schema)

    def _append(self, batch: pa.RecordBatch) -> None:
        table = _table(batch)
        self._held.append(table)
        self._held_rows += table.num_rows
        self._held_bytes += table.nbytes
        if self._held_rows >= _GROUP_ROWS or self._held_bytes >= _GROUP_BYTES:
            self._write_group()

    def _end(self) -> None:
        self._write_group()
        self._writer.close()

    def close(self) -> None:
        """Closes the file, complete or not. Idempotent."""
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        super().close()

    def _write_group(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held).combine_chunks())
        self._held, self._held_rows, self._held_bytes = [], 0, 0

    def _open(self, schema: pa.Schema) -> Any:
        raise NotImplementedError


_GROUP_ROWS, _GROUP_BYTES = 131_072, 16 * 1024**2
"""Size from which results become a row group, or a record batch: enough to compress well, and little to hold."""


class ParquetWriter(_TableWriter):
    """Writes a Parquet file."""

    def _open(self, schema: pa.Schema) -> Any:
        return pq.ParquetWriter(self._out, schema)


class ArrowWriter(_TableWriter):
    """Writes an Arrow file."""

    def _open(self, schema: pa.Schema) -> Any:
        return pa.ipc.new_file(self._out, schema)


class NdjsonWriter(PartWriter):
    """Writes a JSON object on each line."""

    def _begin(self, batch: pa.RecordBatch) -> None:
        pass

    def _append(self, batch: pa.RecordBatch) -> None:
        self._out.write(_encode(batch, ResponseFormat.NDJSON))


class CsvWriter(PartWriter):
    """Writes CSV with a header."""

    _header_bytes: int

    def _begin(self, batch: pa.RecordBatch) -> None:
        header = _encode(batch.slice(0, 0), ResponseFormat.CSV)
        self._out.write(header)
        self._header_bytes = len(header)

    def _append(self, batch: pa.RecordBatch) -> None:
        self._out.write(memoryview(_encode(batch, ResponseFormat.CSV))[self._header_bytes :])


WRITERS: dict[str, type[PartWriter]] = {
    ".parquet": ParquetWriter,
    ".arrow": ArrowWriter,
    ".csv": CsvWriter,
    ".ndjson": NdjsonWriter,
    ".jsonl": NdjsonWriter,
}


class Output(NamedTuple):
    """The place and the format of results.

    Attributes:
        folder: Folder or URL of the files.
        ending: Ending of the results, which is their format.
        file: The only file, if the output is a file; the folder then has the parts, until they are joined.
    """

    folder: str
    ending: str
    file: str = ""

    @property
    def part_ending(self) -> str:
        """Ending of the files of parts."""
        return ".arrow" if self.file else self.ending

    @classmethod
    def parse(cls, text: str) -> Output:
        """Returns the output that a text names: a folder, `out`; the files in it, `out/*.csv`; or one file, `out.csv`.

        Raises:
            UnsupportedMedia: No format has this ending.
            NotFound: The text is empty.
        """
        if not text:
            raise NotFound("the output is empty; name a folder or a file")
        folder, _, name = text.rpartition("/")
        if folder.endswith(":/"):
            folder, name = text, ""  # a bucket, whose name may have dots
        ending = PurePosixPath(name).suffix.lower()
        if "*" in folder or ("*" in name and (name.lower() != f"*{ending}" or ending not in WRITERS)):
            raise UnsupportedMedia(f"the output {text} must be a folder, or end in one of {', '.join(f'/*{each}' for each in WRITERS)}")
        if "*" in name:
            return cls(folder or ("/" if text.startswith("/") else "."), ending)
        if ending in WRITERS:
            return cls(f"{text}.parts", ending, text)
        if ending[1:2].isalpha():  # unlike that of a version
            raise UnsupportedMedia(f"the output {text} must end in one of {', '.join(WRITERS)}; if it is a folder, write {text}/")
        return cls(text.rstrip("/") or "/", ".parquet")


def _encode(batch: pa.RecordBatch, form: ResponseFormat) -> bytes | memoryview:
    return ReplyEncoder(batch).encode_body(form, "", 0, batch.num_rows)


def _table(batch: pa.RecordBatch) -> pa.Table:
    table = pl.DataFrame(batch).to_arrow(compat_level=CompatLevel.oldest())
    return table.cast(plain_schema(table.schema))


def _describe(schema: pa.Schema) -> str:
    return ", ".join(f"{field.name}: {field.type}" for field in schema) or "none"
