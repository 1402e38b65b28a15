"""The time that batches take, and the wait of a request behind them."""

from __future__ import annotations

import pytest

from runtime.front.requests.batch_time import BatchTime, estimate_wait_s


def recorded(*took_s: float) -> BatchTime:
    batch_time = BatchTime()
    for each in took_s:
        batch_time.record(each)
    return batch_time


def test_no_wait_is_estimated_before_a_batch_was_computed() -> None:
    """Nobody is refused without a measurement."""
    assert estimate_wait_s(1000, 1, BatchTime(), []) == 0


def test_the_wait_is_that_of_the_batches_before_divided_by_the_workers() -> None:
    """Ten batches of 0.2 s, on one worker and on four."""
    assert estimate_wait_s(10, 1, recorded(0.2), []) == pytest.approx(2.0)
    assert estimate_wait_s(10, 4, recorded(0.2), []) == pytest.approx(0.5)


def test_one_slow_batch_barely_changes_the_average_and_many_do() -> None:
    """The average follows the batches, the latest most."""
    assert recorded(*[0.1] * 20, 1.0).mean_s < 0.25
    assert recorded(*[0.1] * 20, *[1.0] * 20).mean_s > 0.9


def test_endpoints_of_one_worker_take_turns() -> None:
    """Behind three batches of its own a request waits for three of another endpoint, and not for the other ninety."""
    assert estimate_wait_s(3, 1, recorded(0.1), [(93, recorded(0.5)), (1, recorded(2.0))]) == pytest.approx(0.3 + 1.5 + 2.0)
