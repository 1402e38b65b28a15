"""When a batch is sent."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.front.scheduling.batch_policy import HOLD_MAX_S, DispatchDecision, DispatchPolicy


def turn(policy: DispatchPolicy, arrivals: int, rows: int, computing: int = 0, now: float = 1.0) -> DispatchDecision:
    """Decides in one turn of the loop."""
    policy.arrivals += arrivals
    decision = policy.decide(rows, computing, now)
    policy.arrivals = 0
    return decision


def test_a_lone_request_goes_at_once() -> None:
    """It is not held back for others, which may never come, while a worker is idle."""
    assert turn(DispatchPolicy(64, 0.01), arrivals=1, rows=1) is DispatchDecision.GO


def test_requests_that_arrive_together_are_held_while_more_arrive() -> None:
    """They are sent in the first turn without arrivals."""
    policy = DispatchPolicy(64, 0.01)
    assert [turn(policy, 2, 2), turn(policy, 1, 3), turn(policy, 5, 8)] == [DispatchDecision.HOLD] * 3
    assert turn(policy, 0, 8) is DispatchDecision.GO
    assert turn(policy, 1, 1) is DispatchDecision.GO


def test_no_request_is_held_for_longer_than_the_limit() -> None:
    """The limit is a millisecond, or less if the author sets less."""
    for max_delay_s, held_s in ((0.01, HOLD_MAX_S), (0.0005, 0.0005)):
        policy = DispatchPolicy(64, max_delay_s)
        assert turn(policy, 2, 2, now=1.0) is DispatchDecision.HOLD
        assert turn(policy, 2, 4, now=1.0 + held_s * 0.9) is DispatchDecision.HOLD
        assert turn(policy, 2, 6, now=1.0 + held_s) is DispatchDecision.GO
    assert turn(DispatchPolicy(64, 0.0), arrivals=2, rows=2) is DispatchDecision.GO


def test_a_full_batch_goes_at_once() -> None:
    """For any arrivals and any work of the worker."""
    assert turn(DispatchPolicy(64, 0.01), arrivals=64, rows=64, computing=64) is DispatchDecision.GO
    assert turn(DispatchPolicy(1, 0.01), arrivals=9, rows=9, computing=1) is DispatchDecision.GO


def test_a_second_batch_has_half_the_rows_of_the_first() -> None:
    """A smaller one waits until the worker has replied to the first."""
    policy = DispatchPolicy(64, 0.01)
    assert turn(policy, 1, 1, computing=30) is DispatchDecision.WAIT
    assert turn(policy, 0, 14, computing=30) is DispatchDecision.WAIT
    assert turn(policy, 0, 15, computing=30) is DispatchDecision.GO
    assert turn(policy, 0, 1, computing=0) is DispatchDecision.GO


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.floats(0, 0.0005)), max_size=50))
def test_waiting_rows_are_sent_in_the_end(turns: list[tuple[int, int, float]]) -> None:
    """After any turns, the first one without arrivals and with an idle worker sends them."""
    policy, now = DispatchPolicy(64, 0.01), 1.0
    for arrivals, computing, passed in turns:
        now += passed
        turn(policy, arrivals, 1, computing, now)
    assert turn(policy, 0, 1, 0, now) is DispatchDecision.GO
