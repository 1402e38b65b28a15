"""The queue of an endpoint, and the batches that it makes."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base.errors import Full
from runtime.front.scheduling.batch_queue import BatchQueue, QueueLimits


@dataclass(frozen=True, eq=False)
class Queued:
    """A request as a queue sees it."""

    group: str
    row_count: int
    size_bytes: int = 0
    urgency: int = 3


def drained(queue: BatchQueue[Queued]) -> list[list[Queued]]:
    batches = []
    while batch := queue.take_batch():
        batches.append(batch)
    return batches


REQUESTS = st.lists(st.builds(Queued, st.sampled_from("abc"), st.integers(0, 12)), max_size=40)
OF_ANY_URGENCY = st.lists(st.builds(Queued, st.sampled_from("ab"), st.integers(1, 12), st.integers(0, 9), st.integers(0, 7)), max_size=40)


@given(REQUESTS)
def test_every_request_is_in_exactly_one_batch_of_its_group_and_in_order(requests: list[Queued]) -> None:
    """No request is lost, duplicated, mixed with another group or overtaken within its own."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        queue.add_request(request)
    batches = drained(queue)
    for group in "abc":
        assert [r for batch in batches for r in batch if r.group == group] == [r for r in requests if r.group == group]
    assert all(len({request.group for request in batch}) == 1 for batch in batches)
    assert queue.rows == 0
    assert not queue.size


@given(REQUESTS)
def test_a_batch_of_several_requests_is_limited_in_rows(requests: list[Queued]) -> None:
    """Only a request that is larger by itself makes a larger batch, and it is the only one in it."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        queue.add_request(request)
    assert all(len(batch) == 1 or sum(r.row_count for r in batch) <= 10 for batch in drained(queue))


def test_a_busy_group_does_not_starve_another() -> None:
    """Groups take turns."""
    queue: BatchQueue[Queued] = BatchQueue(1, QueueLimits(100, 10_000))
    for _ in range(5):
        queue.add_request(Queued("busy", 1))
    queue.add_request(Queued("rare", 1))
    assert [batch[0].group for batch in drained(queue)][:2] == ["busy", "rare"]


def test_a_full_queue_refuses_and_loses_nothing() -> None:
    """Waiting rows are limited; an empty queue takes a request of any size, which could otherwise never be computed."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(5, 10_000))
    queue.add_request(Queued("a", 50))
    with pytest.raises(Full):
        queue.add_request(Queued("a", 1))
    assert [len(batch) for batch in drained(queue)] == [1]
    queue.add_request(Queued("a", 1))


def test_a_request_whose_client_is_gone_is_removed_once() -> None:
    """It is in no batch, and a second removal returns False."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(100, 10_000))
    gone, stays = Queued("a", 1), Queued("a", 2)
    queue.add_request(gone)
    queue.add_request(stays)
    assert queue.remove_request(gone)
    assert not queue.remove_request(gone)
    assert queue.rows == 2
    assert drained(queue) == [[stays]]


@given(OF_ANY_URGENCY)
def test_more_urgent_requests_go_first_and_none_is_lost(requests: list[Queued]) -> None:
    """Each batch begins with one of the most urgent requests; less urgent ones only fill it, in the order of their arrival."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        queue.add_request(request)
    left = list(requests)
    while batch := queue.take_batch():
        assert batch[0].urgency == min(each.urgency for each in left)
        assert len({each.group for each in batch}) == 1
        assert [each.urgency for each in batch] == sorted(each.urgency for each in batch)
        assert len(batch) == 1 or sum(each.row_count for each in batch) <= 10
        for request in batch:
            assert request is next(each for each in left if (each.group, each.urgency) == (request.group, request.urgency))
            left.remove(request)
    assert not left
    assert not queue.size
    assert (queue.rows, queue.bytes, queue.batches_before(7)) == (0, 0, 0)


def test_waiting_bytes_are_limited() -> None:
    """A few requests may be large; those that were taken do not count any more."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(1000, 100))
    queue.add_request(Queued("a", 1, 90))
    with pytest.raises(Full, match="90 bytes queued"):
        queue.add_request(Queued("a", 1, 11))
    queue.take_batch()
    queue.add_request(Queued("a", 1, 11))
    assert queue.bytes == 11


def test_only_requests_of_at_least_its_urgency_go_before_a_request() -> None:
    """Ten batches of low urgency do not delay a request of higher urgency."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(1000, 100))
    for _ in range(10):
        queue.add_request(Queued("a", 10, urgency=6))
    assert queue.batches_before(6) == 10
    assert queue.batches_before(3) == 0
    assert queue.batches == 10


@given(OF_ANY_URGENCY)
def test_batches_are_counted_by_group(requests: list[Queued]) -> None:
    """The count is right after any additions and removals."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(10_000, 10_000))
    for request in requests:
        queue.add_request(request)
    for request in requests[::3]:
        queue.remove_request(request)
    kept = [each for i, each in enumerate(requests) if i % 3]
    rows = {(each.urgency, each.group): 0 for each in kept}
    for each in kept:
        rows[each.urgency, each.group] += min(each.row_count, 10)
    assert queue.batches == sum(-(-count // 10) for count in rows.values())
    drained(queue)
    assert queue.batches == 0


@given(REQUESTS)
def test_no_more_batches_are_counted_than_there_are(requests: list[Queued]) -> None:
    """A request that fills several batches by its rows is one batch. Otherwise those behind it would be refused for a wait that is none."""
    queue: BatchQueue[Queued] = BatchQueue(5, QueueLimits(10_000, 10_000))
    for request in requests:
        queue.add_request(request)
    counted, before = queue.batches, queue.batches_before(3)
    batches = len(drained(queue))
    assert before <= batches
    assert counted <= batches


def test_other_groups_take_turns_with_a_requests_own_group() -> None:
    """Behind one batch of its own group a request waits for two of each other group, and for all more urgent ones."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(1000, 10_000))
    for group, count in {"busy": 20, "own": 1, "rare": 1}.items():
        for _ in range(count):
            queue.add_request(Queued(group, 10))
    assert queue.batches_before(3, "own") == 1 + 2 * 2
    assert queue.batches_before(3, "new") == 1 + 1 + 1
    assert queue.batches_before(3, "busy") == 20 + 2
    assert queue.batches_before(2, "own") == 0
    for _ in range(5):
        queue.add_request(Queued("busy", 10, urgency=1))
    assert queue.batches_before(3, "own") == 5 + 1 + 2 * 2


def test_late_requests_leave_their_place_in_the_batch_to_others() -> None:
    """They are removed before the batch is made, from the group whose turn it is, up to the first request that is not late."""
    queue: BatchQueue[Queued] = BatchQueue(10, QueueLimits(1000, 10_000))
    late, good = [Queued("a", 4), Queued("a", 4)], [Queued("a", 5), Queued("a", 5), Queued("a", 4)]
    for request in (*late, *good, Queued("b", 1)):
        queue.add_request(request)
    assert queue.take_late(late.__contains__) == late
    assert queue.take_late(late.__contains__) == []
    assert queue.take_batch() == good[:2]
    assert queue.rows == 5
