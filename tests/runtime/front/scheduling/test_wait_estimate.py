"""How long what comes now would wait."""

from __future__ import annotations

import pytest

from runtime.front.scheduling.wait_estimate import WaitEstimator, wait_s


def told(*took_s: float) -> WaitEstimator:
    outlook = WaitEstimator()
    for each in took_s:
        outlook.answered(each)
    return outlook


def test_nothing_is_expected_before_a_batch_was_answered() -> None:
    """Nobody is refused for what nobody knows."""
    assert wait_s(1000, 1, WaitEstimator(), []) == 0


def test_the_wait_is_that_of_the_batches_before_over_the_workers() -> None:
    """Ten batches of 0.2 s, on one worker and on four."""
    assert wait_s(10, 1, told(0.2), []) == pytest.approx(2.0)
    assert wait_s(10, 4, told(0.2), []) == pytest.approx(0.5)


def test_one_slow_batch_is_not_the_rule_and_many_are() -> None:
    """What a batch takes follows those that come, the latest most."""
    assert told(*[0.1] * 20, 1.0).batch_s < 0.25
    assert told(*[0.1] * 20, *[1.0] * 20).batch_s > 0.9


def test_endpoints_of_one_worker_take_turns() -> None:
    """Behind three batches of its own a request waits for three of another endpoint, and not for the other ninety."""
    assert wait_s(3, 1, told(0.1), [(93, told(0.5)), (1, told(2.0))]) == pytest.approx(0.3 + 1.5 + 2.0)
