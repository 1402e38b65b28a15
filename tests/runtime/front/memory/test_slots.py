"""Where batches lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from base.errors import Full
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.budget import MemoryBudget
from runtime.front.memory.slots import SLOT_BYTES, SLOTS, Slot, SlotPool

SMALL = SLOT_BYTES // 2
LARGE = SLOT_BYTES
MB = 1024 * 1024


@pytest.fixture
def budget() -> MemoryBudget:
    return MemoryBudget(64 * 1024 * 1024)


@pytest.fixture
def rooms(budget: MemoryBudget) -> Iterator[SlotPool]:
    made = SlotPool(budget)
    yield made
    made.close()


def overlap(one: Slot, other: Slot) -> bool:
    """Whether two rooms share a byte."""
    pieces = [(room, place) for room in (one, other) for place in (room.request, room.reply)]
    return any(
        a is not b and a[0].number == b[0].number and a[1].offset < b[1].offset + b[1].length and b[1].offset < a[1].offset + a[1].length
        for a in pieces
        for b in pieces
    )


def test_rooms_in_use_share_no_byte(rooms: SlotPool) -> None:
    """All slots and two large rooms at once, requests and replies."""
    taken = [rooms.take(SMALL, SMALL) for _ in range(SLOTS)] + [rooms.take(LARGE, SMALL), rooms.take(1, 1)]
    assert not any(overlap(one, other) for i, one in enumerate(taken) for other in taken[i + 1 :])
    rooms.give_back(taken[0], held=False)
    assert overlap(taken[0], rooms.take(SMALL, SMALL)), "what nobody uses is not taken again, or this test finds nothing"


def test_a_room_is_as_large_as_was_asked(rooms: SlotPool) -> None:
    """Both places hold what they must and lie inside the segment."""
    room = rooms.take(LARGE + 1, 3 * LARGE)
    assert room.request.length >= LARGE + 1
    assert room.reply.length >= 3 * LARGE
    assert len(room.segment.slice_view(room.reply)) == room.reply.length


def test_a_large_room_is_used_again_without_a_new_segment(rooms: SlotPool) -> None:
    """Fresh pages are slow, so a segment that fits is kept."""
    room = rooms.take(LARGE, LARGE)
    rooms.give_back(room, held=False)
    assert rooms.take(LARGE - 100, LARGE) is room


def test_a_large_room_that_is_still_held_is_never_used_again(rooms: SlotPool) -> None:
    """A worker's handler kept its frame: the worker is told to forget the segment, and nobody writes it any more."""
    room = rooms.take(LARGE, LARGE)
    rooms.give_back(room, held=True)
    assert rooms.forgotten == [room.number]
    assert rooms.take(LARGE, LARGE) is not room


def test_the_budget_bounds_all_and_comes_back(budget: MemoryBudget, rooms: SlotPool) -> None:
    """What does not fit is refused with nothing taken; what is closed counts no more."""
    before = budget.used_bytes
    with pytest.raises(Full):
        rooms.take(64 * 1024 * 1024, 1)
    assert budget.used_bytes == before
    rooms.take(LARGE, LARGE)
    rooms.close()
    assert budget.used_bytes == 0


def test_what_is_kept_for_later_goes_when_others_need_it(budget: MemoryBudget, rooms: SlotPool) -> None:
    """A large room that nobody uses is given up, rather than a request refused; one in use is not."""
    kept, used = rooms.take(20 * MB, MB), rooms.take(20 * MB, MB)
    rooms.give_back(kept, held=False)
    budget.reclaimers.add(rooms.drop_spare)
    with pytest.raises(Full):
        budget.take(60 * MB)
    assert rooms.forgotten == [kept.number]
    budget.take(20 * MB)
    assert used.segment.slice_view(used.reply)


def test_half_of_all_stays_for_what_has_come(budget: MemoryBudget) -> None:
    """What clients still have to send cannot take it."""
    with pytest.raises(Full):
        budget.take_for_arrival(33 * MB)
    budget.take_for_arrival(32 * MB)
    assert not budget.plenty
    budget.take(32 * MB)


def test_a_part_takes_for_arrivals_half_of_what_it_may_have(budget: MemoryBudget) -> None:
    """The rest of the whole's half stays for other parts; what one part has taken another may adopt."""
    one, other = MemoryBudget(48 * MB, budget), MemoryBudget(48 * MB, budget)
    with pytest.raises(Full):
        one.take_for_arrival(25 * MB)
    one.take_for_arrival(24 * MB)
    other.take_for_arrival(8 * MB)
    with pytest.raises(Full):
        other.take_for_arrival(1 * MB)
    assert other.used_bytes == 8 * MB
    one.disown(24 * MB)
    other.adopt(24 * MB)
    assert (one.used_bytes, other.used_bytes, budget.used_bytes) == (0, 32 * MB, 32 * MB)
    other.give_back(32 * MB)
    assert budget.used_bytes == 0


def test_a_segment_made_elsewhere_becomes_a_room_once(budget: MemoryBudget, rooms: SlotPool) -> None:
    """The worker is told of it, and it is gone after its batch."""
    arrival = BodyBuffer.begin(MB + 1, budget)
    adopted = arrival.adopt()
    assert adopted is not None
    room = rooms.adopt(*adopted)
    assert rooms.attached[-1] == (room.number, room.segment)
    assert room.request.length >= MB + 1 <= room.reply.length
    assert arrival.adopt() is None
    arrival.close()
    assert len(room.segment.slice_view(room.reply)) == room.reply.length
    rooms.give_back(room, held=False)
    assert rooms.forgotten == [room.number]


def test_what_is_lent_outlives_its_worker(budget: MemoryBudget, rooms: SlotPool) -> None:
    """It counts until it is given back, and only once."""
    room = rooms.take(LARGE, LARGE)
    rooms.lend(room)
    rooms.close()
    assert budget.used_bytes == room.segment.size
    assert room.segment.slice_view(room.reply)
    rooms.give_back(room, held=False)
    rooms.give_back(room, held=False)
    assert budget.used_bytes == 0
