"""Writes the rows of a batch into shared memory, or takes over the memory into which a body was read."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from base.errors import Full
from base.ipc import frames
from base.ipc.protocol import Flag, SegmentSlice
from runtime.front.memory.slots import Slot, SlotPool
from runtime.front.memory.table_body import TableBody
from runtime.front.requests.request import InferenceRequest


class WrittenBatch(NamedTuple):
    """The rows of a batch as one frame in a slot.

    Attributes:
        slot: Slot of the reply, and of the rows unless they have one of their own.
        frame: Position of the frame.
        flags: Flags that a reader of the frame needs.
        table: Slot of a table in a file; None for other rows.
        write: Writes the frame, on any thread, since that takes long; None if it is written. Until then `frame` is all of its memory.
    """

    slot: Slot
    frame: SegmentSlice
    flags: int
    rows: int
    table: Slot | None = None
    write: Callable[[], frames.WrittenFrame] | None = None


_LONG_BYTES = 4 * 1024**2
"""Size from which a frame is written on a thread: each megabyte takes about a millisecond."""


def write_batch(requests: list[InferenceRequest], slots: SlotPool) -> WrittenBatch:
    """Writes the rows of requests of one group into a new slot. The caller gives the slot back.

    Raises:
        Full: no shared memory is left for the batch. No slot was taken.
    """
    first = requests[0]
    if first.endpoint.spec.tables and isinstance(first.rows.body_buffer, TableBody):
        return _attach_table(first, first.rows.body_buffer, slots)
    if first.rows.body_buffer is not None and len(requests) == 1 and (adopted := _adopt_body(first, slots)) is not None:
        return adopted
    endpoint = first.endpoint
    batch = endpoint.decoder.batches.build_batch([request.rows for request in requests])
    known_schema = endpoint.input_schema is not None
    size = frames.frame_size_max(batch, known_schema=known_schema)
    slot = slots.take_slot(size, max(first.reply_min_bytes, size))
    into = slot.segment.slice_view(slot.request)
    if size >= _LONG_BYTES:
        write = partial(frames.write_frame, batch, into, known_schema=known_schema)
        return WrittenBatch(slot, slot.request, 0, batch.num_rows, write=write)
    written = frames.write_frame(batch, into, known_schema=known_schema)
    return WrittenBatch(slot, slot.request.prefix(written.length), written.flags, batch.num_rows)


def _attach_table(request: InferenceRequest, body: TableBody, slots: SlotPool) -> WrittenBatch:
    slot = slots.take_slot(0, request.reply_min_bytes)
    try:
        table = slots.attach_file(body.file)
    except Full:
        slots.give_back(slot, retained=False)
        raise
    return WrittenBatch(slot, table.request, Flag.TABLE, request.rows.count, table)


def _adopt_body(request: InferenceRequest, slots: SlotPool) -> WrittenBatch | None:
    """Returns a request's body buffer as a slot; None if it has no frame of the endpoint, or was handed over before."""
    buffer = request.rows.body_buffer
    if buffer is None or buffer.frame is None or (handed_over := buffer.hand_over()) is None:
        return None
    slot = slots.adopt_segment(*handed_over)
    offset, length = buffer.frame
    return WrittenBatch(slot, SegmentSlice(slot.number, offset, length), 0, request.rows.count)
