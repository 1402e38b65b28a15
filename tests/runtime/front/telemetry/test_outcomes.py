"""The limit of failures of a release on probation, at one front door."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from base.ipc.front_door_control import FailureLimit, OutcomeReport
from base.telemetry.reports import PendingReports
from runtime.front.telemetry.outcomes import OutcomeCounter


def counter_of(limit: FailureLimit) -> OutcomeCounter:
    return OutcomeCounter(PendingReports(lambda: None), "it", limit, lambda: None)


@pytest.mark.parametrize(
    ("answered", "failed", "reached"),
    [(0, 0, False), (19, 19, False), (20, 9, False), (20, 10, True), (21, 10, False), (22, 11, True), (1000, 499, False)],
)
def test_the_limit_is_a_share_of_at_least_so_many_answers(answered: int, failed: int, reached: bool) -> None:
    assert FailureLimit(20, 50.0).is_reached(answered, failed) is reached


def test_the_limit_is_divided_among_front_doors_and_rounded_up() -> None:
    assert [FailureLimit(20, 50.0).divided(count).requests_min for count in (1, 2, 3, 40)] == [20, 10, 7, 1]


def test_of_a_release_that_always_fails_as_many_requests_are_sent_as_the_limit_says() -> None:
    """Whether they are answered meanwhile or not. None of them is at a worker when the limit is reached."""
    counter = counter_of(FailureLimit(5, 50.0))
    assert [counter.begin_request(number) for number in range(8)] == [True] * 5 + [False] * 3
    for number in range(5):
        counter.end_request(number, answered=True, failed=True)
        assert not counter.has_room
    assert counter.take_report() == OutcomeReport("it", 5, 5, limit_reached=True)
    assert counter.take_report() == OutcomeReport("it", 0, 0, limit_reached=True)


def test_a_request_that_ends_without_an_answer_of_the_release_makes_room_for_another() -> None:
    """Its client has disconnected, or another release answers it. One that was never sent says nothing about the release."""
    counter = counter_of(FailureLimit(1, 50.0))
    assert counter.begin_request("first")
    assert not counter.begin_request("second")
    counter.end_request("second", answered=True, failed=True)
    counter.end_request("first", answered=False)
    assert counter.take_report() == OutcomeReport("it", 0, 0)
    assert counter.begin_request("second")


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 30), st.sampled_from([1.0, 10.0, 33.3, 50.0, 90.0, 100.0]), st.floats(0, 1), st.randoms(use_true_random=False))
def test_requests_side_by_side_fail_no_more_often_than_one_after_the_other(
    requests_min: int, percent: float, failing: float, choices: random.Random
) -> None:
    """In any order of their ends: with a request more, the limit would have been reached before by those that had ended."""
    limit = FailureLimit(requests_min, percent)
    counter, sent = counter_of(limit), list[int]()
    answered = failed = 0
    for number in range(300):
        if counter.begin_request(number):
            sent.append(number)
        else:
            assert limit.is_reached(answered + len(sent), failed + len(sent))
        while sent and (choices.random() < 0.3 or not counter.has_room):
            fails = choices.random() < failing
            counter.end_request(sent.pop(choices.randrange(len(sent))), answered=True, failed=fails)
            answered, failed = answered + 1, failed + fails
            if limit.is_reached(answered, failed):
                assert not sent
                assert not limit.is_reached(answered - 1, failed - 1)
                return
