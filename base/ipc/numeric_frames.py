"""Numeric batches: a few rows of numbers without nulls, written to frames and read from them without Arrow.

The metadata of a record batch message depends only on its schema, its number of rows and its nulls. So for numbers without nulls in a
schema that both sides know, the metadata is a constant for each number of rows. Arrow makes that constant once. After that, a writer
appends the values to it, and a reader that finds exactly these bytes knows where the values are. A frame whose metadata differs in any byte
is read by Arrow, which can also read the frame of a numeric batch: no answer depends on the path that either side takes.

Pure: knows neither segments nor Polars.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pyarrow as pa

from base.ipc.protocol import Flag

ROWS_MAX = 1024
"""Maximum number of rows. With more, the saved time is not measurable, and each number of rows takes a few hundred bytes of metadata."""

LENGTH_MAX = 64 * 1024
"""Maximum length of a frame, which is copied. Arrow reads a longer one in place."""

_COLUMNS_MAX = 1024
"""Maximum number of columns. The metadata of each takes 48 bytes, so frames of more columns are longer than LENGTH_MAX."""

_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"

_FORMATS_MAX = 16
_SCHEMA_MAX_BYTES = 4096

NumericColumn = np.ndarray[Any, np.dtype[Any]]


class ColumnValues(Protocol):
    """The values of one column in memory: an array of numpy or of the standard library."""

    def tobytes(self) -> bytes:
        """Returns a copy of the values, without gaps."""


_TYPE_CODES = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d"}
"""numpy dtype → type code of `array.array`."""


class _FrameLayout(NamedTuple):
    """The layout of a frame of some number of rows: metadata first, then each column at its offset."""

    head: bytes
    offsets: tuple[int, ...]
    end: int
    length: int


class NumericBatch:
    """Rows of numbers without nulls. Made by `NumericFormat`.

    Attributes:
        columns: An array for each column of the schema, of exactly its type and `num_rows` long.
        length: Length of the frame in bytes.
        name_bytes: Length of the names of the columns.
    """

    __slots__ = ("_format", "_layout", "columns", "length", "name_bytes", "num_rows")

    def __init__(self, numeric_format: NumericFormat, layout: _FrameLayout, num_rows: int, columns: Sequence[ColumnValues]) -> None:
        self._format = numeric_format
        self._layout = layout
        self.num_rows = num_rows
        self.columns = columns
        self.length = layout.length
        self.name_bytes = numeric_format.name_bytes

    @property
    def names(self) -> list[str]:
        """Returns the names of the columns."""
        return list(self._format.schema.names)

    @property
    def flags(self) -> int:
        """Returns the flags that a reader needs."""
        return Flag.SCHEMA if self._format.streamed else 0

    def write_frame(self, into: memoryview) -> None:
        """Writes the frame at the start of `into`, which must have space for it."""
        head, offsets, end, length = self._layout
        into[: len(head)] = head
        for offset, column in zip(offsets, self.columns, strict=True):
            data = column.tobytes()
            into[offset : offset + len(data)] = data
        if end != length:
            into[end:length] = _END_OF_STREAM

    def to_record_batch(self) -> pa.RecordBatch:
        """Returns the rows as a record batch."""
        return _record_batch(self._format.schema, self.columns)

    def to_arrow_stream(self) -> bytes:
        """Returns the rows as an Arrow stream of one batch."""
        head, offsets, end, _ = self._layout
        parts = [b"" if self._format.streamed else self._format.schema_message, head]
        at = len(head)
        for offset, column in zip((*offsets, end), (*self.columns, None), strict=True):
            parts.append(bytes(offset - at))
            if column is not None:
                data = column.tobytes()
                parts.append(data)
                at = offset + len(data)
        return b"".join((*parts, _END_OF_STREAM))


class NumericFormat:
    """The format of numeric batches of one schema.

    Attributes:
        schema: A schema of numbers only.
        dtypes: The dtypes of the columns, in order.
        name_bytes: Length of the names of the columns.
        streamed: Frames carry their schema, as Arrow streams of one batch.
        schema_message: The bytes with which such a stream begins.
    """

    def __init__(self, schema: pa.Schema, dtypes: tuple[np.dtype[Any], ...], *, streamed: bool = False) -> None:
        self.schema = schema
        self.dtypes = dtypes
        self.streamed = streamed
        self.name_bytes = sum(map(len, schema.names))
        self._row_bytes = sum(dtype.itemsize for dtype in dtypes)
        self.schema_message = bytes(schema.serialize())
        self._type_codes = [_TYPE_CODES[dtype.str[1:]] for dtype in dtypes]
        self._layouts: dict[int, _FrameLayout] = {}  # bounded by ROWS_MAX

    @classmethod
    def for_schema(cls, schema: pa.Schema | None, *, streamed: bool = False) -> NumericFormat | None:
        """Returns the format for a schema that has numbers only; None for all others."""
        if schema is None or not 0 < len(schema) <= _COLUMNS_MAX or not all(_is_number(field.type) for field in schema):
            return None
        return cls(schema, tuple(np.dtype(field.type.to_pandas_dtype()) for field in schema), streamed=streamed)

    def batch_of_columns(self, num_rows: int, columns: Sequence[ColumnValues]) -> NumericBatch | None:
        """Returns a batch of columns, which must have this format's dtypes; None if it is too large."""
        layout = self._layout(num_rows)
        return None if layout is None else NumericBatch(self, layout, num_rows, columns)

    def batch_of_rows(self, rows: Iterable[Sequence[object]]) -> NumericBatch | None:
        """Returns a batch of rows of Python numbers, each with all columns in order; None if a value does not fit its column."""
        by_column = list(zip(*rows, strict=True))
        try:
            columns = [array(code, values) for code, values in zip(self._type_codes, by_column, strict=True)]
        except (TypeError, ValueError, OverflowError):  # ValueError: there are no rows
            return None
        return self.batch_of_columns(len(columns[0]), columns)

    def concatenate(self, parts: Sequence[NumericBatch]) -> NumericBatch | None:
        """Returns the rows of batches of this format, in their order; None if they are too many for one."""
        if len(parts) == 1:
            return parts[0]
        columns = [np.concatenate(pieces) for pieces in zip(*(part.columns for part in parts), strict=True)]
        return self.batch_of_columns(len(columns[0]), columns)

    def read_batch(self, frame: memoryview, num_rows: int) -> NumericBatch | None:
        """Returns a copy of the rows in `frame`; None if it is not a numeric batch of `num_rows` rows, so that Arrow must read it."""
        layout = self._layout(num_rows)
        if layout is None or len(frame) != layout.length:
            return None
        copy = bytes(frame)
        if not copy.startswith(layout.head):
            return None
        columns = [np.frombuffer(copy, dtype, num_rows, offset) for dtype, offset in zip(self.dtypes, layout.offsets, strict=True)]
        return NumericBatch(self, layout, num_rows, columns)

    def _layout(self, rows: int) -> _FrameLayout | None:
        found = self._layouts.get(rows)
        if found is None and 0 < rows <= ROWS_MAX and rows * self._row_bytes <= LENGTH_MAX:
            found = self._layouts[rows] = self._make_layout(rows)
        return found if found is not None and found.length <= LENGTH_MAX else None

    def _make_layout(self, rows: int) -> _FrameLayout:
        """Returns the layout of a frame that Arrow writes."""
        before = self.schema_message if self.streamed else b""
        message = _record_batch(self.schema, [np.zeros(rows, dtype) for dtype in self.dtypes]).serialize()
        read = pa.ipc.read_record_batch(message, self.schema)
        offsets = [column.buffers()[1].address - message.address for column in read.columns]  # type: ignore[union-attr]  # the values'
        head, end = before + bytes(message)[: offsets[0]], len(before) + message.size
        return _FrameLayout(head, tuple(len(before) + offset for offset in offsets), end, end + len(_END_OF_STREAM) * self.streamed)


class NumericFormatCache:
    """The formats of frames that carry a schema that this side does not know beforehand; learned as they arrive."""

    def __init__(self) -> None:
        self._formats: dict[bytes, NumericFormat | None] = {}  # bounded by _FORMATS_MAX

    def read_batch(self, frame: memoryview, num_rows: int) -> NumericBatch | None:
        """Returns what `NumericFormat.read_batch` returns; None for a schema that was not learned."""
        numeric_format = self._formats.get(_schema_message(frame))
        return None if numeric_format is None else numeric_format.read_batch(frame, num_rows)

    def learn_schema(self, frame: memoryview, schema: pa.Schema) -> None:
        """Remembers the schema that Arrow has read in this frame."""
        if len(self._formats) < _FORMATS_MAX:
            self._formats.setdefault(_schema_message(frame), NumericFormat.for_schema(schema, streamed=True))


def is_numeric_column(values: NumericColumn) -> bool:
    """Returns True if this is one column of numbers."""
    return values.ndim == 1 and values.dtype.isnative and values.dtype.str[1:] in _TYPE_CODES


def arrow_array(values: ColumnValues) -> pa.Array[Any]:
    """Returns numbers as an Arrow array. `pyarrow.array` does the same, but imports pandas if it is installed: 45 MB and half a second."""
    column: Any = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(column)])


def _record_batch(schema: pa.Schema, columns: Sequence[ColumnValues]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([arrow_array(column) for column in columns], schema=schema)


def _schema_message(frame: memoryview) -> bytes:
    """Returns the beginning of a stream, up to a limit: a marker of 4 bytes, the length of the metadata in 4 bytes, and the metadata."""
    return bytes(frame[: 8 + min(int.from_bytes(frame[4:8], "little"), _SCHEMA_MAX_BYTES)])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))
