"""Which requests make a batch."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Full
from runtime.front.scheduling.batch_queue import BatchQueue, QueueLimits


@dataclass(frozen=True, eq=False)
class Asked:
    """A request, as far as a batcher sees it."""

    group: str
    row_count: int
    size_bytes: int = 0
    urgency: int = 3


def drained(batcher: BatchQueue[Asked]) -> list[list[Asked]]:
    batches = []
    while batch := batcher.take():
        batches.append(batch)
    return batches


REQUESTS = st.lists(st.builds(Asked, st.sampled_from("abc"), st.integers(0, 12)), max_size=40)
OF_ANY_URGENCY = st.lists(st.builds(Asked, st.sampled_from("ab"), st.integers(1, 12), st.integers(0, 9), st.integers(0, 7)), max_size=40)


@given(REQUESTS)
def test_every_request_is_in_exactly_one_batch_of_its_group_and_in_order(requests: list[Asked]) -> None:
    """Nothing is lost, doubled, mixed or overtaken within its group."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        batcher.add(request)
    batches = drained(batcher)
    for group in "abc":
        assert [r for batch in batches for r in batch if r.group == group] == [r for r in requests if r.group == group]
    assert all(len({request.group for request in batch}) == 1 for batch in batches)
    assert batcher.rows == 0
    assert not batcher


@given(REQUESTS)
def test_rows_bound_a_batch_of_several_requests(requests: list[Asked]) -> None:
    """Only a request that is larger by itself makes a larger batch, and it travels alone."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        batcher.add(request)
    assert all(len(batch) == 1 or sum(r.row_count for r in batch) <= 10 for batch in drained(batcher))


def test_a_busy_group_does_not_starve_another() -> None:
    """Groups take turns."""
    batcher: BatchQueue[Asked] = BatchQueue(1, QueueLimits(100, 10_000))
    for _ in range(5):
        batcher.add(Asked("busy", 1))
    batcher.add(Asked("rare", 1))
    assert [batch[0].group for batch in drained(batcher)][:2] == ["busy", "rare"]


def test_a_full_queue_refuses_and_loses_nothing() -> None:
    """Rows that wait are bounded; an empty queue takes a request of any size, since it could never be taken otherwise."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(5, 10_000))
    batcher.add(Asked("a", 50))
    with pytest.raises(Full):
        batcher.add(Asked("a", 1))
    assert [len(batch) for batch in drained(batcher)] == [1]
    batcher.add(Asked("a", 1))


def test_a_request_whose_client_left_is_taken_out_once() -> None:
    """It is in no batch, and a second removal says so."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(100, 10_000))
    gone, stays = Asked("a", 1), Asked("a", 2)
    batcher.add(gone)
    batcher.add(stays)
    assert batcher.remove(gone)
    assert not batcher.remove(gone)
    assert batcher.rows == 2
    assert drained(batcher) == [[stays]]


@given(OF_ANY_URGENCY)
def test_what_is_more_urgent_goes_first_and_nothing_is_lost(requests: list[Asked]) -> None:
    """Each batch begins with one of the most urgent that wait; less urgent ones only fill it up, in the order of their coming."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        batcher.add(request)
    left = list(requests)
    while batch := batcher.take():
        assert batch[0].urgency == min(each.urgency for each in left)
        assert len({each.group for each in batch}) == 1
        assert [each.urgency for each in batch] == sorted(each.urgency for each in batch)
        assert len(batch) == 1 or sum(each.row_count for each in batch) <= 10
        for request in batch:
            assert request is next(each for each in left if (each.group, each.urgency) == (request.group, request.urgency))
            left.remove(request)
    assert not left
    assert not batcher
    assert (batcher.rows, batcher.bytes, batcher.batches_before(7)) == (0, 0, 0)


def test_bytes_bound_what_waits() -> None:
    """A few requests may be large; what has gone is counted no more."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(1000, 100))
    batcher.add(Asked("a", 1, 90))
    with pytest.raises(Full, match="90 bytes are waiting"):
        batcher.add(Asked("a", 1, 11))
    batcher.take()
    batcher.add(Asked("a", 1, 11))
    assert batcher.bytes == 11


def test_only_what_is_as_urgent_is_before_a_request() -> None:
    """Ten batches of no hurry delay a request of some hurry by none."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(1000, 100))
    for _ in range(10):
        batcher.add(Asked("a", 10, urgency=6))
    assert batcher.batches_before(6) == 10
    assert batcher.batches_before(3) == 0
    assert batcher.batches == 10


@given(OF_ANY_URGENCY)
def test_batches_are_counted_by_group(requests: list[Asked]) -> None:
    """As many as there are at least, whatever comes and goes."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        batcher.add(request)
    for request in requests[::3]:
        batcher.remove(request)
    kept = [each for i, each in enumerate(requests) if i % 3]
    rows = {(each.urgency, each.group): 0 for each in kept}
    for each in kept:
        rows[each.urgency, each.group] += each.row_count
    assert batcher.batches == sum(-(-count // 10) for count in rows.values())
    drained(batcher)
    assert batcher.batches == 0


def test_other_groups_take_turns_with_ones_own() -> None:
    """Behind one batch of its own a request waits for two of each other group, and for all that is more urgent."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(1000, 10_000))
    for group, count in {"busy": 20, "own": 1, "rare": 1}.items():
        for _ in range(count):
            batcher.add(Asked(group, 10))
    assert batcher.batches_before(3, "own") == 1 + 2 * 2
    assert batcher.batches_before(3, "new") == 1 + 1 + 1
    assert batcher.batches_before(3, "busy") == 20 + 2
    assert batcher.batches_before(2, "own") == 0
    for _ in range(5):
        batcher.add(Asked("busy", 10, urgency=1))
    assert batcher.batches_before(3, "own") == 5 + 1 + 2 * 2


def test_what_is_late_leaves_its_batch_to_others() -> None:
    """It is taken out before the batch is made, from the group whose turn it is, and no further than the first that is in time."""
    batcher: BatchQueue[Asked] = BatchQueue(10, QueueLimits(1000, 10_000))
    late, good = [Asked("a", 4), Asked("a", 4)], [Asked("a", 5), Asked("a", 5), Asked("a", 4)]
    for request in (*late, *good, Asked("b", 1)):
        batcher.add(request)
    assert batcher.take_late(late.__contains__) == late
    assert batcher.take_late(late.__contains__) == []
    assert batcher.take() == good[:2]
    assert batcher.rows == 5
