"""Plain frames: a few rows of numbers without nulls, written and read without Arrow.

The metadata of a record batch message depends on its schema, its number of rows and its nulls alone. So for numbers without nulls, of a
schema that both sides know, it is a constant for each number of rows. Arrow itself makes that constant once; later a writer puts the values
behind it, and a reader who finds just these bytes knows all that there is to know. A frame whose metadata differs in a byte is read by
Arrow, and Arrow reads a plain frame as any other: that the two sides go different ways changes no answer.

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
"""With more rows what is saved is no longer to be seen, and every number of rows takes a few hundred bytes of metadata."""

LENGTH_MAX = 64 * 1024
"""A longer frame is read in place by Arrow; this one is copied."""

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""Of an Arrow stream."""

_KNOWN_MAX = 16
_SCHEMA_MAX_BYTES = 4096

NumericColumn = np.ndarray[Any, np.dtype[Any]]


class ColumnValues(Protocol):
    """The values of one column as they lie in memory: an array of numpy or of the standard library."""

    def tobytes(self) -> bytes:
        """A copy of them, without gaps."""


_CODES = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q", "f4": "f", "f8": "d"}
"""dtypes of numpy as `array.array` calls them."""


class _Layout(NamedTuple):
    """Where things lie in the frame of so many rows: the metadata first, then each column at its offset."""

    head: bytes
    offsets: tuple[int, ...]
    end: int
    length: int


class NumericBatch:
    """Rows of numbers, see `Form.plain`.

    Attributes:
        columns: one array for each column of the schema, of just its type and `num_rows` long.
        length: the bytes of the frame.
    """

    __slots__ = ("_form", "_layout", "columns", "length", "num_rows")

    def __init__(self, form: NumericFormat, layout: _Layout, num_rows: int, columns: Sequence[ColumnValues]) -> None:
        self._form = form
        self._layout = layout
        self.num_rows = num_rows
        self.columns = columns
        self.length = layout.length

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return list(self._form.schema.names)

    @property
    def flags(self) -> int:
        """What a reader must be told."""
        return Flag.SCHEMA if self._form.streamed else 0

    def write_frame(self, into: memoryview) -> None:
        """Writes the frame at the start of `into`, which has room for it."""
        head, offsets, end, length = self._layout
        into[: len(head)] = head
        for offset, column in zip(offsets, self.columns, strict=True):
            data = column.tobytes()
            into[offset : offset + len(data)] = data
        if end != length:
            into[end:length] = _END

    def to_record_batch(self) -> pa.RecordBatch:
        """The same rows as a record batch."""
        return _batch(self._form.schema, self.columns)

    def to_arrow_stream(self) -> bytes:
        """The same rows as an Arrow stream of one batch."""
        head, offsets, end, _ = self._layout
        parts = [b"" if self._form.streamed else self._form.schema_message, head]
        at = len(head)
        for offset, column in zip((*offsets, end), (*self.columns, None), strict=True):
            parts.append(bytes(offset - at))
            if column is not None:
                data = column.tobytes()
                parts.append(data)
                at = offset + len(data)
        return b"".join((*parts, _END))


class NumericFormat:
    """The plain frames of one schema.

    Attributes:
        schema: of numbers only.
        dtypes: of the columns, in order.
        streamed: whether the frames carry their schema: they are then Arrow streams of one batch.
        schema_message: what such a stream begins with.
    """

    def __init__(self, schema: pa.Schema, dtypes: tuple[np.dtype[Any], ...], *, streamed: bool = False) -> None:
        self.schema = schema
        self.dtypes = dtypes
        self.streamed = streamed
        self.schema_message = bytes(schema.serialize())
        self._codes = [_CODES[dtype.str[1:]] for dtype in dtypes]
        self._layouts: dict[int, _Layout] = {}  # bounded by ROWS_MAX

    @classmethod
    def for_schema(cls, schema: pa.Schema | None, *, streamed: bool = False) -> NumericFormat | None:
        """The form of a schema that has numbers only; None for all others."""
        if schema is None or not len(schema) or not all(_is_number(field.type) for field in schema):
            return None
        return cls(schema, tuple(np.dtype(field.type.to_pandas_dtype()) for field in schema), streamed=streamed)

    def batch_of_columns(self, num_rows: int, columns: Sequence[ColumnValues]) -> NumericBatch | None:
        """These columns, which must be of this form's dtypes, as a plain frame; None where that is too large for one."""
        layout = self._layout(num_rows)
        return None if layout is None else NumericBatch(self, layout, num_rows, columns)

    def batch_of_rows(self, rows: Iterable[Sequence[object]]) -> NumericBatch | None:
        """Rows of Python numbers, each with all columns in order, as a plain frame; None where one of them is no number of its column."""
        turned = list(zip(*rows, strict=True))
        try:
            columns = [array(code, values) for code, values in zip(self._codes, turned, strict=True)]
        except (TypeError, ValueError, OverflowError):  # ValueError: there are no rows
            return None
        return self.batch_of_columns(len(columns[0]), columns)

    def concatenate(self, parts: Sequence[NumericBatch]) -> NumericBatch | None:
        """The rows of frames of this form, in their order; None where they are too many for one."""
        if len(parts) == 1:
            return parts[0]
        columns = [np.concatenate(pieces) for pieces in zip(*(part.columns for part in parts), strict=True)]
        return self.batch_of_columns(len(columns[0]), columns)

    def read_batch(self, frame: memoryview, num_rows: int) -> NumericBatch | None:
        """A copy of the rows in `frame`; None where it is no plain frame of so many rows, so that Arrow must look at it."""
        layout = self._layout(num_rows)
        if layout is None or len(frame) != layout.length:
            return None
        copy = bytes(frame)
        if not copy.startswith(layout.head):
            return None
        columns = [np.frombuffer(copy, dtype, num_rows, offset) for dtype, offset in zip(self.dtypes, layout.offsets, strict=True)]
        return NumericBatch(self, layout, num_rows, columns)

    def _layout(self, rows: int) -> _Layout | None:
        found = self._layouts.get(rows)
        if found is None and 0 < rows <= ROWS_MAX:
            found = self._layouts[rows] = self._made(rows)
        return found if found is not None and found.length <= LENGTH_MAX else None

    def _made(self, rows: int) -> _Layout:
        """As Arrow lays it out."""
        before = self.schema_message if self.streamed else b""
        message = _batch(self.schema, [np.zeros(rows, dtype) for dtype in self.dtypes]).serialize()
        read = pa.ipc.read_record_batch(message, self.schema)
        offsets = [column.buffers()[1].address - message.address for column in read.columns]  # type: ignore[union-attr]  # the values'
        head, end = before + bytes(message)[: offsets[0]], len(before) + message.size
        return _Layout(head, tuple(len(before) + offset for offset in offsets), end, end + len(_END) * self.streamed)


class NumericFormatCache:
    """The forms of frames that carry a schema which this side was not told of; learned as they come."""

    def __init__(self) -> None:
        self._known: dict[bytes, NumericFormat | None] = {}  # bounded by _KNOWN_MAX

    def read_batch(self, frame: memoryview, num_rows: int) -> NumericBatch | None:
        """As `Form.read`."""
        form = self._known.get(_schema_message(frame))
        return None if form is None else form.read_batch(frame, num_rows)

    def learn_schema(self, frame: memoryview, schema: pa.Schema) -> None:
        """Arrow has read this schema in this frame."""
        if len(self._known) < _KNOWN_MAX:
            self._known.setdefault(_schema_message(frame), NumericFormat.for_schema(schema, streamed=True))


def is_numeric_column(values: NumericColumn) -> bool:
    """Whether this is one column of numbers."""
    return values.ndim == 1 and values.dtype.isnative and values.dtype.str[1:] in _CODES


def arrow_array(values: ColumnValues) -> pa.Array[Any]:
    """Numbers as Arrow has them. `pyarrow.array` would do the same, and import pandas where it is there: 45 MB and half a second."""
    column: Any = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [None, pa.py_buffer(column)])


def _batch(schema: pa.Schema, columns: Sequence[ColumnValues]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([arrow_array(column) for column in columns], schema=schema)


def _schema_message(frame: memoryview) -> bytes:
    """What a stream begins with, up to a bound: a mark of 4 bytes, the length of the metadata in 4, and the metadata."""
    return bytes(frame[: 8 + min(int.from_bytes(frame[4:8], "little"), _SCHEMA_MAX_BYTES)])


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_float32(kind) or pa.types.is_float64(kind))
