"""How the rows of a batch come to lie in a room: written there, or in the memory into which their body came."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from base.ipc import frames
from base.ipc.protocol import SegmentSlice
from runtime.front.memory.slots import Slot, SlotPool

if TYPE_CHECKING:
    from runtime.front.requests.request import InferenceRequest

_REPLY_MIN_BYTES = 64 * 1024


class WrittenBatch(NamedTuple):
    """The rows of a batch in one frame: where in which room it lies, the frame's flags, and how many rows they are."""

    room: Slot
    frame: SegmentSlice
    flags: int
    rows: int


def write_batch(requests: list[InferenceRequest], rooms: SlotPool) -> WrittenBatch:
    """The rows of requests of one group, in a room that is theirs until it is given back.

    Raises:
        Full: no shared memory is left for it. Nothing was taken.
    """
    if requests[0].rows.body_buffer is not None and (arrived := _as_it_came(requests, rooms)) is not None:
        return arrived
    endpoint = requests[0].endpoint
    batch = endpoint.decoder.batches.build_batch([request.rows for request in requests])
    known = endpoint.input_schema is not None
    need = frames.frame_size_max(batch, known_schema=known)
    room = rooms.take(need, max(_REPLY_MIN_BYTES, need))
    written = frames.write_frame(batch, room.segment.slice_view(room.request), known_schema=known)
    return WrittenBatch(room, room.request.prefix(written.length), written.flags, batch.num_rows)


def _as_it_came(requests: list[InferenceRequest], rooms: SlotPool) -> WrittenBatch | None:
    """Where one body came into memory of its own, and holds a frame as it stands; not a second time."""
    arrival = requests[0].rows.body_buffer
    if len(requests) > 1 or arrival is None or arrival.frame is None or (adopted := arrival.adopt()) is None:
        return None
    room = rooms.adopt(*adopted)
    offset, length = arrival.frame
    return WrittenBatch(room, SegmentSlice(room.number, offset, length), 0, requests[0].row_count)
