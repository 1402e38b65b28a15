"""Frames: one Arrow record batch as bytes in a segment, and back without a copy.

A frame is an encapsulated record batch message. With a schema message before it (an Arrow stream), the reader needs to know
nothing; without, it must know the schema from the routing table. A bare batch of a few rows is written and read four times faster
than a stream.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from base.errors import PeerError
from base.ipc.numeric_frames import NumericBatch, NumericFormat, NumericFormatCache
from base.ipc.protocol import Flag

_BARE_MAX_BYTES = 256 * 1024
"""Above it a bare batch's extra copy costs more than the schema message that writing it in place needs."""

COPY_MAX_BYTES = 64 * 1024
"""Up to it a frame is copied off the segment: cheaper than watching whether a handler keeps it."""


class WrittenFrame(msgspec.Struct, frozen=True, gc=False):
    """How many bytes were written, and the flags that a reader needs."""

    length: int
    flags: int


def frame_size_max(batch: pa.RecordBatch | NumericBatch, *, known_schema: bool) -> int:
    """An upper bound of the bytes that `write` will need."""
    if isinstance(batch, NumericBatch):
        return batch.length
    size: int = pa.ipc.get_record_batch_size(batch)
    if known_schema and size <= _BARE_MAX_BYTES:
        return size
    return size + batch.schema.serialize().size + 16


def write_frame(batch: pa.RecordBatch | NumericBatch, into: memoryview, *, known_schema: bool) -> WrittenFrame:
    """Writes `batch` at the start of `into`; with `known_schema` the schema is left out where that is faster.

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


def read_frame(frame: memoryview | np.ndarray[Any, Any], flags: int, schema: pa.Schema | None) -> pa.RecordBatch:
    """The record batch in `frame`, whose buffers refer to that memory.

    Raises:
        PeerError: the bytes are no frame, or one of a schema that this side does not know.
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
        raise PeerError(f"not a frame: {exc}") from exc
    return batch


def read_frame_watched(frame: memoryview, flags: int, schema: pa.Schema | None) -> tuple[pa.RecordBatch, Callable[[], bool]]:
    """Like `read`, for frames given to a handler: also a function that tells whether anybody still refers to the memory.

    A handler may keep its frame, in a global or a thread. Its segment must then not be written again, or what was kept would change.
    """
    if len(frame) <= COPY_MAX_BYTES:
        return read_frame(memoryview(bytes(frame)), flags, schema), lambda: False
    owner = np.frombuffer(frame, np.uint8)
    alive = weakref.ref(owner)
    return read_frame(owner, flags, schema), lambda: alive() is not None


class FrameReader:
    """Reads the frames of one endpoint, in one direction.

    Args:
        schema: which both sides know; None where each frame brings its own.
    """

    def __init__(self, schema: pa.Schema | None) -> None:
        self.schema = schema
        self._form = NumericFormat.for_schema(schema)
        self._forms = NumericFormatCache()

    def read_numeric_batch(self, frame: memoryview, flags: int, num_rows: int) -> NumericBatch | None:
        """A copy of what `frame` holds, where it is a plain frame of so many rows; None where one of the others must look at it."""
        if not flags & Flag.SCHEMA:
            return None if self._form is None else self._form.read_batch(frame, num_rows)
        return self._forms.read_batch(frame, num_rows) if self.schema is None else None

    def read_frame(self, frame: memoryview, flags: int) -> pa.RecordBatch:
        """As the function of that name."""
        batch = read_frame(frame, flags, self.schema)
        self._learn(frame, flags, batch)
        return batch

    def read_frame_watched(self, frame: memoryview, flags: int) -> tuple[pa.RecordBatch, Callable[[], bool]]:
        """As the function of that name."""
        batch, held = read_frame_watched(frame, flags, self.schema)
        self._learn(frame, flags, batch)
        return batch, held

    def _learn(self, frame: memoryview, flags: int, batch: pa.RecordBatch) -> None:
        if flags & Flag.SCHEMA and self.schema is None:
            self._forms.learn_schema(frame, batch.schema)
