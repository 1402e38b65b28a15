"""Sends replies to clients directly from shared memory. The slot of a reply is freed once the socket has taken the bytes."""

from __future__ import annotations

import asyncio
import mmap
import weakref
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa

from base.ipc.protocol import Flag, Reply
from base.schema.wire import plain_schema
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.requests.request import InferenceRequest

LEASE_MIN_BYTES = 1024**2
"""Smallest size of a leased reply. Smaller replies are copied, and their slot is freed at once."""


class ReplyLease:
    """The bytes of one reply, leased for as long as anybody refers to them. A connection refers to them until it has sent them or is lost.

    Attributes:
        view: The bytes, for the response; None once the lease has ended.
    """

    def __init__(self, frame: memoryview) -> None:
        owner = np.frombuffer(frame.toreadonly(), np.uint8)
        self._loop = asyncio.get_running_loop()
        self._free: Callable[[], None] | None = None
        self._owner = weakref.ref(owner, self._on_unreferenced)
        self.view: memoryview | None = memoryview(owner)  # type: ignore[arg-type]  # the stubs do not know the buffer protocol

    def end(self, free: Callable[[], None]) -> bool:
        """Drops this reference to the bytes. Calls `free` when no other reference is left: at once, or later in the loop.

        Returns:
            Whether `free` will be called later.
        """
        self.view = None
        if self._owner() is None:
            free()
            return False
        self._free = free
        return True

    def _on_unreferenced(self, _: object) -> None:
        if self._free is not None:
            self._loop.call_soon(self._free)  # do not interrupt the code that dropped the last reference


def lease_reply(frame: memoryview, reply: Reply, requests: Sequence[InferenceRequest], rows: int) -> ReplyLease | None:
    """Returns a lease of a reply that can be sent unchanged as the response to one request; None if its values must be read.

    Args:
        frame: The reply's bytes, in memory that its worker can write to.
        reply: The message that announced it.
        requests: The requests of the batch.
        rows: The rows of the batch.
    """
    if len(requests) > 1 or reply.rows != rows or not reply.flags & Flag.SCHEMA:
        return None
    (request,) = requests
    if (
        request.head.format not in {ResponseFormat.ARROW, ResponseFormat.ARROW_VIEWS}
        or request.endpoint.spec.raw
        or request.observer is not None
        or not request.needs_body
    ):
        return None
    views = request.head.format is ResponseFormat.ARROW_VIEWS
    return ReplyLease(frame) if is_one_batch(frame, rows, request.endpoint.output_schema, views=views) else None


def is_one_batch(frame: memoryview, rows: int, schema: pa.Schema | None, metadata_max_bytes: int = 1024**2, *, views: bool = False) -> bool:
    """Returns whether a reply is an Arrow stream of exactly one batch, so that it may be sent unchanged.

    The worker can write to the reply at any time, even during this check. So Arrow gets a copy of the metadata, with zeros in place of the
    values, and validates the position of each buffer. The values, and lengths and offsets in them, are not read here, since only the client
    uses them.

    Args:
        frame: The reply's bytes.
        rows: The rows of the batch.
        schema: Schema of the endpoint's replies; None if each reply may have its own.
        metadata_max_bytes: Limit of one message's metadata. The default is enough for about ten thousand columns. Replies with more are
            copied and validated like small ones.
        views: The client takes other types than plain ones, too.
    """
    head = _copy_metadata(frame, metadata_max_bytes)
    if head is None:
        return False
    memory = mmap.mmap(-1, len(frame))  # zeros, which take no memory until they are read
    memory[: len(head)] = head
    stream = pa.py_buffer(memory)
    try:
        batch = pa.ipc.open_stream(stream).read_next_batch()
        batch.validate()
        messages = pa.ipc.MessageReader.open_stream(stream)
        schema_message, batch_message = messages.read_next_message(), messages.read_next_message()
    except (pa.ArrowException, OSError, EOFError, StopIteration):
        return False
    if batch.num_rows != rows or (schema is not None and not batch.schema.equals(schema)):
        return False
    if not views and plain_schema(batch.schema) is not batch.schema:
        return False
    if not all(field.nullable or not column.null_count for field, column in zip(batch.schema, batch.columns, strict=True)):
        return False
    schema_bytes, batch_bytes = [0 if each.body is None else each.body.size for each in (schema_message, batch_message)]
    return not schema_bytes and bytes(frame[len(head) + batch_bytes :][: len(_END) + 1]) in (b"", _END)


def _copy_metadata(frame: memoryview, max_bytes: int) -> bytes | None:
    """Returns a copy of the metadata of a schema and a batch, each after a mark and its length; None if there is no such metadata."""
    copy = b""
    for _ in range(2):
        at = len(copy)
        prefix = bytes(frame[at : at + 8])
        size = int.from_bytes(prefix[4:], "little")
        if prefix[:4] != _MARK or not 0 < size <= max_bytes:
            return None
        copy += prefix + bytes(frame[at + 8 : at + 8 + size])
    return copy


_MARK, _END = b"\xff\xff\xff\xff", b"\xff\xff\xff\xff\0\0\0\0"
"""The beginning of a message and the end of a stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format)."""
