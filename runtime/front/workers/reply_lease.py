"""Replies that a client is sent out of the segment in which they lie: its room is free only once the socket has taken them."""

from __future__ import annotations

import asyncio
import mmap
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from base.ipc.protocol import Flag, Reply
from runtime.front.codecs.encoder import ResponseFormat

if TYPE_CHECKING:
    from runtime.front.requests.request import InferenceRequest

LENT_MIN_BYTES = 1024**2
"""Smaller ones are copied, and their room is free at once."""


class ReplyLease:
    """The bytes of one reply, as long as anybody refers to them. A connection does until it has sent them or is lost.

    Attributes:
        view: the bytes, for whoever sends them.
    """

    def __init__(self, frame: memoryview) -> None:
        owner = np.frombuffer(frame.toreadonly(), np.uint8)
        self._loop = asyncio.get_running_loop()
        self._free: Callable[[], None] | None = None
        self._alive = weakref.ref(owner, self._ended)
        self.view: memoryview | None = memoryview(owner)  # type: ignore[arg-type]  # the stubs do not know the buffer protocol

    def end(self, free: Callable[[], None]) -> bool:
        """Refers to the bytes no longer. Calls `free` when nobody does: at once, or later in the loop. Returns whether it is later."""
        self.view = None
        if self._alive() is None:
            free()
            return False
        self._free = free
        return True

    def _ended(self, _: object) -> None:
        if self._free is not None:
            self._loop.call_soon(self._free)  # whoever lets go of the bytes may be in the middle of something


def lend(frame: memoryview, reply: Reply, requests: Sequence[InferenceRequest], rows: int) -> ReplyLease | None:
    """A reply that is the answer of one request as it lies there, and whose values nobody here looks at; None for all others.

    Args:
        frame: the reply, in memory of its worker.
        reply: what the worker says of it.
        requests: of the batch.
        rows: of the batch.
    """
    if len(requests) > 1 or reply.rows != rows or not reply.flags & Flag.SCHEMA:
        return None
    (request,) = requests
    if request.form is not ResponseFormat.ARROW or request.endpoint.spec.raw or request.is_compared:
        return None
    return ReplyLease(frame) if is_one_batch(frame, rows, request.endpoint.output_schema) else None


def is_one_batch(frame: memoryview, rows: int, schema: pa.Schema | None) -> bool:
    """Whether a reply is an Arrow stream of one batch of so many rows, and nothing else, so that it may go out as it lies.

    Its worker can write to it at any time, also while it is looked at. So Arrow is given a copy of the metadata, with zeros where the
    values are, and finds out whether each buffer lies where it may. Of the values nothing is read here, by no length and no offset in them:
    they are the client's.

    Args:
        frame: the reply.
        rows: of the batch.
        schema: of the endpoint's replies; None where each may have its own.
    """
    head = _head(frame)
    if head is None:
        return False
    memory = mmap.mmap(-1, len(frame))  # of zeros, which take no memory until they are read
    memory[: len(head)] = head
    stream = pa.py_buffer(memory)
    try:
        batch = pa.ipc.open_stream(stream).read_next_batch()
        batch.validate()
        messages = pa.ipc.MessageReader.open_stream(stream)
        about, held = messages.read_next_message(), messages.read_next_message()
    except (pa.ArrowException, OSError, EOFError, StopIteration):
        return False
    if batch.num_rows != rows or (schema is not None and not batch.schema.equals(schema)):
        return False
    if not all(field.nullable or not column.null_count for field, column in zip(batch.schema, batch.columns, strict=True)):
        return False
    bodies = [0 if each.body is None else each.body.size for each in (about, held)]
    return not bodies[0] and bytes(frame[len(head) + bodies[1] :][: len(_END) + 1]) in (b"", _END)


def _head(frame: memoryview) -> bytes | None:
    """A copy of what stands before the values: the metadata of a schema and of a batch, each behind a mark and its length."""
    copy = b""
    for _ in range(2):
        at = len(copy)
        prefix = bytes(frame[at : at + 8])
        size = int.from_bytes(prefix[4:], "little")
        if prefix[:4] != _MARK or not 0 < size <= _METADATA_MAX_BYTES:
            return None
        copy += prefix + bytes(frame[at + 8 : at + 8 + size])
    return copy


_MARK, _END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
"""What begins a message, and what ends a stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format)."""

_METADATA_MAX_BYTES = 1024**2
"""Of one message; of some ten thousand columns. What says that it has more is copied, and then looked at like any other."""
