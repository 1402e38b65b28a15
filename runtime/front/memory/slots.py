"""Where batches and their replies lie: slots of one segment, and segments of their own for what is larger.

Knows segments, not channels: who uses rooms tells the worker of each segment that is new and of each that goes.
"""

from __future__ import annotations

from dataclasses import dataclass

from base.errors import Full
from base.ipc import frames
from base.ipc.protocol import SegmentSlice
from base.ipc.segment import Segment, rounded_size
from runtime.front.memory.budget import MemoryBudget

SLOTS = 64
"""Two batches are in flight at most; the others hold batches that wait for an artifact to load, and answers that are streamed."""

SLOT_BYTES = 2 * frames.COPY_MAX_BYTES
"""Half for the request, half for the reply. A worker copies frames of up to that half, so it never holds on to a slot. Pages that
are never written take no memory."""


_SPARE_MAX = 2
"""Large segments kept for the next large batch: as many as can be in flight."""


@dataclass(eq=False)
class Slot:
    """A place for one batch and one for its reply; `slot` is None where the segment is its own."""

    number: int
    segment: Segment
    request: SegmentSlice
    reply: SegmentSlice
    slot: int | None = None
    adopted: bool = False


class SlotPool:
    """The rooms of one channel. Its owner; `close()` gives all memory back.

    `attached` and `forgotten` collect what the worker must be told; whoever sends to it empties them first.
    """

    def __init__(self, budget: MemoryBudget) -> None:
        self._budget = budget
        self._next = 0
        self._segments: dict[int, Segment] = {}
        self._spare: list[Slot] = []
        self._lent: set[int] = set()
        self._closed = False
        self.attached: list[tuple[int, Segment]] = []
        self.forgotten: list[int] = []
        number, segment = self._make(SLOTS * SLOT_BYTES)
        self._slots = [_slot(number, segment, i) for i in range(SLOTS)]

    def take(self, request_bytes: int, reply_bytes: int) -> Slot:
        """A room with at least these places.

        Raises:
            Full: the budget has no bytes left for it. Nothing was taken.
        """
        half = SLOT_BYTES // 2
        if self._slots and request_bytes <= half and reply_bytes <= half:
            return self._slots.pop()
        for room in self._spare:
            if room.request.length >= request_bytes and room.reply.length >= reply_bytes:
                self._spare.remove(room)
                return room
        self.drop_spare()
        request_bytes = -(-request_bytes // 64) * 64
        number, segment = self._make(request_bytes + reply_bytes)
        return Slot(
            number, segment, SegmentSlice(number, 0, request_bytes), SegmentSlice(number, request_bytes, segment.size - request_bytes)
        )

    def adopt(self, segment: Segment, request_bytes: int) -> Slot:
        """A room in a segment that was made elsewhere, and is counted in the budget; the request takes so many bytes at its beginning."""
        self._budget.adopt(segment.size)
        number = self._attach(segment)
        return Slot(
            number,
            segment,
            SegmentSlice(number, 0, request_bytes),
            SegmentSlice(number, request_bytes, segment.size - request_bytes),
            adopted=True,
        )

    def lend(self, room: Slot) -> None:
        """Somebody refers to the room's reply. It stays counted until it is given back, even if everything else is closed."""
        self._lent.add(room.number)

    def give_back(self, room: Slot, *, held: bool) -> None:
        """The room is free again, or, when the worker still holds its frame, gone for good."""
        self._lent.discard(room.number)
        if self._closed:
            if room.number in self._segments:
                self._unmake(room.number)
        elif held and room.slot is None:
            self._discard(room)
        elif room.slot is not None:
            self._slots.append(room)
        elif len(self._spare) < _SPARE_MAX and not room.adopted:  # bodies bring their own
            self._spare.append(room)
        else:
            self._discard(room)

    def close(self) -> None:
        """Unmaps everything but what is lent. Only once no worker reads or writes any of it: its channel is closed."""
        self._closed = True
        for number in self._segments.keys() - self._lent:
            self._unmake(number)
        self._slots, self._spare, self.attached, self.forgotten = [], [], [], []

    def _make(self, size: int) -> tuple[int, Segment]:
        size = rounded_size(size)
        self._budget.take(size)
        try:
            segment = Segment.create(size)
        except OSError as exc:
            self._budget.give_back(size)
            raise Full(f"no shared memory could be made: {exc.strerror}") from exc
        return self._attach(segment), segment

    def _attach(self, segment: Segment) -> int:
        number = self._free_number()
        self._segments[number] = segment
        self.attached.append((number, segment))
        return number

    def _free_number(self) -> int:
        while self._next in self._segments:
            self._next = (self._next + 1) % 65536
        return self._next

    def _unmake(self, number: int) -> None:
        segment = self._segments.pop(number)
        self._budget.give_back(segment.size)
        segment.close()

    def _discard(self, room: Slot) -> None:
        self.forgotten.append(room.number)
        self._unmake(room.number)

    def drop_spare(self) -> None:
        """Discards what is kept for the next large batch."""
        for room in self._spare:
            self._discard(room)
        self._spare = []


def _slot(number: int, segment: Segment, index: int) -> Slot:
    start, half = index * SLOT_BYTES, SLOT_BYTES // 2
    return Slot(number, segment, SegmentSlice(number, start, half), SegmentSlice(number, start + half, half), index)
