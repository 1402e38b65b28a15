"""Slots for batches and their replies in shared memory."""

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
def slots(budget: MemoryBudget) -> Iterator[SlotPool]:
    made = SlotPool(budget)
    yield made
    made.close()


def overlap(one: Slot, other: Slot) -> bool:
    """Returns whether two slots share a byte."""
    pieces = [(slot, place) for slot in (one, other) for place in (slot.request, slot.reply)]
    return any(
        a is not b and a[0].number == b[0].number and a[1].offset < b[1].offset + b[1].length and b[1].offset < a[1].offset + a[1].length
        for a in pieces
        for b in pieces
    )


def test_slots_in_use_share_no_byte(slots: SlotPool) -> None:
    """All small slots and two large ones at once, requests and replies."""
    taken = [slots.take_slot(SMALL, SMALL) for _ in range(SLOTS)] + [slots.take_slot(LARGE, SMALL), slots.take_slot(1, 1)]
    assert not any(overlap(one, other) for i, one in enumerate(taken) for other in taken[i + 1 :])
    slots.give_back(taken[0], retained=False)
    assert overlap(taken[0], slots.take_slot(SMALL, SMALL)), "a free slot is not used again, or this test cannot fail"


def test_a_slot_is_as_large_as_requested(slots: SlotPool) -> None:
    """Both places have the requested size and lie inside the segment."""
    slot = slots.take_slot(LARGE + 1, 3 * LARGE)
    assert slot.request.length >= LARGE + 1
    assert slot.reply.length >= 3 * LARGE
    assert len(slot.segment.slice_view(slot.reply)) == slot.reply.length


def test_a_large_slot_is_used_again_without_a_new_segment(slots: SlotPool) -> None:
    """Fresh pages are slow, so a segment that fits is kept."""
    slot = slots.take_slot(LARGE, LARGE)
    slots.give_back(slot, retained=False)
    assert slots.take_slot(LARGE - 100, LARGE) is slot


def test_a_retained_large_slot_is_never_used_again(slots: SlotPool) -> None:
    """A worker's handler still refers to its frame: the worker is told to forget the segment, and nobody writes to it any more."""
    slot = slots.take_slot(LARGE, LARGE)
    slots.give_back(slot, retained=True)
    assert slots.to_forget == [slot.number]
    assert slots.take_slot(LARGE, LARGE) is not slot


def test_the_budget_limits_all_slots_and_gets_the_bytes_back(budget: MemoryBudget, slots: SlotPool) -> None:
    """A slot over the limit is refused with nothing reserved; a closed pool has given all bytes back."""
    before = budget.used_bytes
    with pytest.raises(Full):
        slots.take_slot(64 * 1024 * 1024, 1)
    assert budget.used_bytes == before
    slots.take_slot(LARGE, LARGE)
    slots.close()
    assert budget.used_bytes == 0


def test_spare_segments_are_reclaimed_when_others_need_the_memory(budget: MemoryBudget, slots: SlotPool) -> None:
    """A free large slot is dropped rather than a request refused; one in use is not."""
    kept, used = slots.take_slot(20 * MB, MB), slots.take_slot(20 * MB, MB)
    slots.give_back(kept, retained=False)
    budget.reclaimers.add(slots.drop_spare_segments)
    with pytest.raises(Full):
        budget.reserve(60 * MB)
    assert slots.to_forget == [kept.number]
    budget.reserve(20 * MB)
    assert used.segment.slice_view(used.reply)


def test_half_of_the_budget_stays_for_complete_requests(budget: MemoryBudget) -> None:
    """Bodies that clients still have to send cannot reserve it."""
    with pytest.raises(Full):
        budget.reserve_for_body(33 * MB)
    budget.reserve_for_body(32 * MB)
    assert not budget.is_ample
    budget.reserve(32 * MB)


def test_a_part_may_reserve_half_of_its_limit_for_bodies(budget: MemoryBudget) -> None:
    """The rest of the whole's half stays for other parts; bytes that one part has reserved another may take over."""
    one, other = MemoryBudget(48 * MB, budget), MemoryBudget(48 * MB, budget)
    with pytest.raises(Full):
        one.reserve_for_body(25 * MB)
    one.reserve_for_body(24 * MB)
    other.reserve_for_body(8 * MB)
    with pytest.raises(Full):
        other.reserve_for_body(1 * MB)
    assert other.used_bytes == 8 * MB
    one.transfer_out(24 * MB)
    other.transfer_in(24 * MB)
    assert (one.used_bytes, other.used_bytes, budget.used_bytes) == (0, 32 * MB, 32 * MB)
    other.release(32 * MB)
    assert budget.used_bytes == 0


def test_a_body_buffer_is_handed_over_once(budget: MemoryBudget, slots: SlotPool) -> None:
    """The worker is told of the segment, which is dropped after its batch."""
    buffer = BodyBuffer.allocate(MB + 1, budget)
    adopted = buffer.hand_over()
    assert adopted is not None
    slot = slots.adopt_segment(*adopted)
    assert slots.to_attach[-1] == (slot.number, slot.segment)
    assert slot.request.length >= MB + 1 <= slot.reply.length
    assert buffer.hand_over() is None
    buffer.close()
    assert len(slot.segment.slice_view(slot.reply)) == slot.reply.length
    slots.give_back(slot, retained=False)
    assert slots.to_forget == [slot.number]


def test_a_leased_slot_outlives_its_worker(budget: MemoryBudget, slots: SlotPool) -> None:
    """Its bytes count until it is given back, and only once."""
    slot = slots.take_slot(LARGE, LARGE)
    slots.lease(slot)
    slots.close()
    assert budget.used_bytes == slot.segment.size
    assert slot.segment.slice_view(slot.reply)
    slots.give_back(slot, retained=False)
    slots.give_back(slot, retained=False)
    assert budget.used_bytes == 0
