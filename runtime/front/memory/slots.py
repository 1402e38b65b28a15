"""Shared memory for batches and their replies: slots in one segment, and a separate segment for each larger batch.

Knows segments but no channels: the owner of a pool announces new and removed segments to the worker.
"""

from __future__ import annotations

from dataclasses import dataclass

from base.errors import Full
from base.ipc import frames
from base.ipc.protocol import SegmentSlice
from base.ipc.segment import Segment, rounded_size
from runtime.front.memory.budget import MemoryBudget
from runtime.front.memory.table_files import TableFile

SLOTS = 64
"""Number of slots. At most two batches are in flight; the other slots hold parked batches, which wait for an artifact to load, and streamed
responses."""

SLOT_BYTES = 2 * frames.COPY_MAX_BYTES
"""Size of a slot: half for the request, half for the reply. A worker copies frames of up to half a slot, so it never retains a slot. Pages
that are never written take no memory."""

_HALF_BYTES = SLOT_BYTES // 2

_SPARE_MAX = 2
"""Number of large segments that are kept for the next large batches: as many as can be in flight."""


@dataclass(eq=False)
class Slot:
    """Memory for one batch and its reply.

    Attributes:
        number: Number of the segment in messages to the worker.
        own_segment: Whether the segment has no other slot.
        adopted: Whether the segment was made for a request body.
    """

    number: int
    segment: Segment
    request: SegmentSlice
    reply: SegmentSlice
    own_segment: bool = False
    adopted: bool = False


class SlotPool:
    """The slots of one channel. It owns the memory, and `close()` frees all of it.

    Attributes:
        to_attach: New segments to announce to the worker; the owner of the pool removes them.
        to_forget: Numbers of removed segments to announce to the worker; the owner of the pool removes them.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._next_number = 0
        self._segments: dict[int, Segment] = {}
        self._of_files: set[int] = set()
        self._spare: list[Slot] = []
        self._leased: set[int] = set()
        self._closed = False
        self.to_attach: list[tuple[int, Segment]] = []
        self.to_forget: list[int] = []
        number, segment = self._make_segment(SLOTS * SLOT_BYTES)
        self._free = [_slot_at(number, segment, index) for index in range(SLOTS)]

    def take_slot(self, request_bytes: int, reply_bytes: int) -> Slot:
        """Returns a slot with at least this many bytes for the request and for the reply.

        Raises:
            Full: the budget has too few bytes left. Nothing was taken.
        """
        if self._free and request_bytes <= _HALF_BYTES and reply_bytes <= _HALF_BYTES:
            return self._free.pop()
        for slot in self._spare:
            if slot.request.length >= request_bytes and slot.reply.length >= reply_bytes:
                self._spare.remove(slot)
                return slot
        self.drop_spare_segments()
        request_bytes = -(-request_bytes // 64) * 64
        number, segment = self._make_segment(request_bytes + reply_bytes)
        return _slot_of(number, segment, request_bytes)

    def adopt_segment(self, segment: Segment, request_bytes: int) -> Slot:
        """Returns a slot in a segment that was made elsewhere and is reserved in the whole budget, with the request at its beginning."""
        self._budget.transfer_in(segment.size)
        slot = _slot_of(self._attach(segment), segment, request_bytes)
        slot.adopted = True
        return slot

    def attach_file(self, file: TableFile) -> Slot:
        """Returns a slot with a whole file as the request, and without a reply.

        Raises:
            Full: No descriptor or no memory is left.
        """
        segment = file.map()
        number = self._attach(segment)
        self._of_files.add(number)
        return Slot(number, segment, SegmentSlice(number, 0, segment.size), SegmentSlice(number, 0, 0), own_segment=True, adopted=True)

    def lease(self, slot: Slot) -> None:
        """Marks the slot as used by a response. The slot then survives `close()` until it is given back."""
        self._leased.add(slot.number)

    def give_back(self, slot: Slot, *, retained: bool) -> None:
        """Makes a slot available to the next batch, or drops its segment if the worker still refers to it (`retained`)."""
        self._leased.discard(slot.number)
        if self._closed:
            if slot.number in self._segments:
                self._close_segment(slot.number)
        elif not slot.own_segment:
            self._free.append(slot)
        elif not retained and len(self._spare) < _SPARE_MAX and not slot.adopted:  # bodies bring segments of their own
            self._spare.append(slot)
        else:
            self._drop(slot)

    def drop_spare_segments(self) -> None:
        """Drops the segments that are kept for the next large batches."""
        for slot in self._spare:
            self._drop(slot)
        self._spare = []

    def close(self) -> None:
        """Unmaps all memory that is not leased. The channel must be closed before, so that the worker no longer uses the memory."""
        self._closed = True
        for number in self._segments.keys() - self._leased:
            self._close_segment(number)
        self._free, self._spare, self.to_attach, self.to_forget = [], [], [], []

    def _make_segment(self, size: int) -> tuple[int, Segment]:
        size = rounded_size(size)
        self._budget.reserve(size)
        try:
            segment = Segment.create(size)
        except OSError as exc:
            self._budget.release(size)
            raise Full(f"shared memory cannot be created: {exc.strerror}") from exc
        return self._attach(segment), segment

    def _attach(self, segment: Segment) -> int:
        number = self._free_number()
        self._segments[number] = segment
        self.to_attach.append((number, segment))
        return number

    def _free_number(self) -> int:
        while self._next_number in self._segments:
            self._next_number = (self._next_number + 1) % 65536
        return self._next_number

    def _close_segment(self, number: int) -> None:
        segment = self._segments.pop(number)
        if number in self._of_files:
            self._of_files.discard(number)
        else:
            self._budget.release(segment.size)
        segment.close()

    def _drop(self, slot: Slot) -> None:
        self.to_forget.append(slot.number)
        self._close_segment(slot.number)


def _slot_at(number: int, segment: Segment, index: int) -> Slot:
    start = index * SLOT_BYTES
    return Slot(number, segment, SegmentSlice(number, start, _HALF_BYTES), SegmentSlice(number, start + _HALF_BYTES, _HALF_BYTES))


def _slot_of(number: int, segment: Segment, request_bytes: int) -> Slot:
    request, reply = SegmentSlice(number, 0, request_bytes), SegmentSlice(number, request_bytes, segment.size - request_bytes)
    return Slot(number, segment, request, reply, own_segment=True)
