"""Frames: writes one Arrow record batch into a segment, and reads it without a copy.

A frame is an encapsulated record batch message. With a schema message before it (an Arrow stream), the reader needs to know nothing;
without one, the reader must know the schema from the routing table. A bare batch of a few rows is written and read four times faster than
a stream.
"""

from __future__ import annotations

import io
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from base.errors import PeerError
from base.ipc.numeric_frames import NumericBatch, NumericFormat, NumericFormatCache
from base.ipc.protocol import Flag

_BARE_MAX_BYTES = 256 * 1024
"""Above this size the extra copy of a bare batch costs more than the schema message that writing in place needs."""

COPY_MAX_BYTES = 64 * 1024
"""Up to this size a frame is copied off the segment, which costs less than watching whether a handler keeps it."""


class WrittenFrame(msgspec.Struct, frozen=True, gc=False):
    """The number of bytes that were written, and the flags that the reader needs."""

    length: int
    flags: int


def frame_size_max(batch: pa.RecordBatch | NumericBatch, *, known_schema: bool) -> int:
    """Returns an upper bound of the bytes that `write_frame` will need."""
    if isinstance(batch, NumericBatch):
        return batch.length
    size: int = pa.ipc.get_record_batch_size(batch)
    if known_schema and size <= _BARE_MAX_BYTES:
        return size
    return size + batch.schema.serialize().size + 16


def write_frame(batch: pa.RecordBatch | NumericBatch, into: memoryview, *, known_schema: bool) -> WrittenFrame:
    """Writes `batch` at the start of `into`; with `known_schema` it leaves the schema out if that is faster.

    Raises:
        ValueError: `into` is too small (see `frame_size_max`).
    """
    if isinstance(batch, NumericBatch):
        batch.write_frame(into)
        return WrittenFrame(batch.length, batch.flags)
    if known_schema and pa.ipc.get_record_batch_size(batch) <= _BARE_MAX_BYTES:
        message = memoryview(batch.serialize()).cast("B")
        into[: len(message)] = message
        return WrittenFrame(len(message), 0)
    sink = pa.FixedSizeBufferWriter(pa.py_buffer(into))
    with pa.ipc.new_stream(sink, batch.schema) as stream:
        stream.write_batch(batch)
    return WrittenFrame(sink.tell(), Flag.SCHEMA)


def frame_pieces(batch: pa.RecordBatch | NumericBatch) -> Iterator[memoryview]:
    """Yields what `write_frame` writes with the flag SCHEMA, in pieces of any size, which refer to the memory of the batch."""
    records = batch.to_record_batch() if isinstance(batch, NumericBatch) else batch
    pieces = _Pieces()
    with pa.ipc.new_stream(pa.PythonFile(pieces, "w"), records.schema) as stream:
        stream.write_batch(records)
    yield from pieces.found


class _Pieces(io.RawIOBase):
    """Keeps the buffers that Arrow writes, which are those of a batch and little else."""

    def __init__(self) -> None:
        self.found: list[memoryview] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | pa.Buffer) -> int:  # type: ignore[override]
        self.found.append(memoryview(data).cast("B"))
        return len(data)


def read_frame(frame: memoryview | np.ndarray[Any, Any], flags: int, schema: pa.Schema | None) -> pa.RecordBatch:
    """Returns the record batch in `frame`. Its buffers refer to that memory.

    Raises:
        PeerError: The bytes are not a frame, or have a schema that this side does not know.
    """
    buffer = pa.py_buffer(frame)  # type: ignore[arg-type]  # the stubs do not know the buffer protocol
    try:
        if flags & Flag.SCHEMA:
            batch = pa.ipc.open_stream(buffer).read_next_batch()
        elif schema is None:
            raise PeerError("a frame without a schema for an endpoint that declares none")
        else:
            batch = pa.ipc.read_record_batch(buffer, schema)
        batch.validate()
    except (pa.ArrowException, OSError, EOFError, StopIteration) as exc:
        raise PeerError(f"the bytes are no frame: {exc}") from exc
    return batch


def read_frame_watched(frame: memoryview, flags: int, schema: pa.Schema | None) -> tuple[pa.RecordBatch, Callable[[], bool]]:
    """Returns the record batch as `read_frame` does, and a function that tells whether anything still refers to the memory.

    A handler may keep its frame, in a global or a thread. The segment must then not be written again, or the kept frame would change.
    """
    if len(frame) <= COPY_MAX_BYTES:
        return read_frame(memoryview(bytes(frame)), flags, schema), lambda: False
    owner = np.frombuffer(frame, np.uint8)
    alive = weakref.ref(owner)
    return read_frame(owner, flags, schema), lambda: alive() is not None


def read_table_watched(
    stream: memoryview, schema: pa.Schema | None, after_batch: Callable[[], None] = lambda: None
) -> tuple[pa.Table, Callable[[], bool]]:
    """Returns the batches of an Arrow stream as a table, and a function as `read_frame_watched` does. Nothing is copied.

    Args:
        stream: The memory of the stream.
        schema: The schema that both sides know; None if the stream brings its own.
        after_batch: Called after each batch. The kernel maps up to 2 MiB around what is read of it.

    Raises:
        PeerError: The bytes are not an Arrow stream, or its columns are not those of the schema.
    """
    owner = np.frombuffer(stream, np.uint8)
    alive = weakref.ref(owner)
    try:
        reader = pa.ipc.open_stream(pa.py_buffer(owner))  # type: ignore[arg-type]  # the stubs do not know the buffer protocol
        known = reader.schema if schema is None else schema
        batches = []
        for batch in reader:
            batch.validate()
            batches.append(pa.RecordBatch.from_arrays(batch.columns, schema=known) if len(known) else batch)
            after_batch()
        table = pa.Table.from_batches(batches, known)
    except (pa.ArrowException, OSError, EOFError, ValueError) as exc:
        raise PeerError(f"the bytes are no table: {exc}") from exc
    return table, lambda: alive() is not None


class FrameReader:
    """Reads the frames of one endpoint, in one direction.

    Args:
        schema: The schema that both sides know; None if each frame brings its own.
    """

    def __init__(self, schema: pa.Schema | None) -> None:
        self.schema = schema
        self._numeric_format = NumericFormat.for_schema(schema)
        self._learned_formats = NumericFormatCache()

    def read_numeric_batch(self, frame: memoryview, flags: int, num_rows: int) -> NumericBatch | None:
        """Returns a copy of the rows in `frame` if it is a numeric batch of `num_rows` rows; None if another method must read it."""
        if not flags & Flag.SCHEMA:
            return None if self._numeric_format is None else self._numeric_format.read_batch(frame, num_rows)
        return self._learned_formats.read_batch(frame, num_rows) if self.schema is None else None

    def read_frame(self, frame: memoryview, flags: int) -> pa.RecordBatch:
        """Returns the record batch in `frame`, as the function `read_frame` does."""
        batch = read_frame(frame, flags, self.schema)
        self._learn_format(frame, flags, batch)
        return batch

    def read_frame_watched(self, frame: memoryview, flags: int) -> tuple[pa.RecordBatch, Callable[[], bool]]:
        """Returns what the function `read_frame_watched` returns."""
        batch, is_retained = read_frame_watched(frame, flags, self.schema)
        self._learn_format(frame, flags, batch)
        return batch, is_retained

    def _learn_format(self, frame: memoryview, flags: int, batch: pa.RecordBatch) -> None:
        if flags & Flag.SCHEMA and self.schema is None:
            self._learned_formats.learn_schema(frame, batch.schema)


def may_have_rows(rows: int, frame_bytes: int) -> bool:
    """Returns whether a frame of this size may have this number of rows, if nothing else determines it.

    Nulls, and rows without columns, take no memory in a frame, but they do in a response: a small frame could claim billions of them.
    """
    return rows <= max(_ROWS_WITHOUT_VALUES_MAX, 8 * frame_bytes)


_ROWS_WITHOUT_VALUES_MAX = 1_000_000
