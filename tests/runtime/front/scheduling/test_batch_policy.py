"""When a batch goes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.front.scheduling.batch_policy import HOLD_MAX_S, DispatchDecision, DispatchPolicy


def turn(pace: DispatchPolicy, came: int, rows: int, computing: int = 0, now: float = 1.0) -> DispatchDecision:
    """One turn of the loop."""
    for _ in range(came):
        pace.came()
    pace.turn(now)
    return pace.step(rows, computing, now)


def test_a_lone_request_goes_at_once() -> None:
    """An idle worker does not wait for anything, and nobody for others who may never come."""
    assert turn(DispatchPolicy(64, 0.01), came=1, rows=1) is DispatchDecision.GO


def test_requests_that_come_together_are_held_while_more_come() -> None:
    """The first turn that brings nothing lets them go."""
    pace = DispatchPolicy(64, 0.01)
    assert [turn(pace, 2, 2), turn(pace, 1, 3), turn(pace, 5, 8)] == [DispatchDecision.HOLD] * 3
    assert turn(pace, 0, 8) is DispatchDecision.GO
    assert turn(pace, 1, 1) is DispatchDecision.GO


def test_nothing_is_held_for_long() -> None:
    """A millisecond, or less where the author says so."""
    for max_delay_s, held_s in ((0.01, HOLD_MAX_S), (0.0005, 0.0005)):
        pace = DispatchPolicy(64, max_delay_s)
        assert turn(pace, 2, 2, now=1.0) is DispatchDecision.HOLD
        assert turn(pace, 2, 4, now=1.0 + held_s * 0.9) is DispatchDecision.HOLD
        assert turn(pace, 2, 6, now=1.0 + held_s) is DispatchDecision.GO
    assert turn(DispatchPolicy(64, 0.0), came=2, rows=2) is DispatchDecision.GO


def test_a_full_batch_goes_at_once() -> None:
    """However many come, and whatever the worker has."""
    assert turn(DispatchPolicy(64, 0.01), came=64, rows=64, computing=64) is DispatchDecision.GO
    assert turn(DispatchPolicy(1, 0.01), came=9, rows=9, computing=1) is DispatchDecision.GO


def test_a_second_batch_is_worth_its_place() -> None:
    """It has half as many rows as the one before it, or that one has been answered."""
    pace = DispatchPolicy(64, 0.01)
    assert turn(pace, 1, 1, computing=30) is DispatchDecision.WAIT
    assert turn(pace, 0, 14, computing=30) is DispatchDecision.WAIT
    assert turn(pace, 0, 15, computing=30) is DispatchDecision.GO
    assert turn(pace, 0, 1, computing=0) is DispatchDecision.GO


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 40), st.floats(0, 0.0005)), max_size=50))
def test_whatever_comes_what_waits_goes_in_the_end(turns: list[tuple[int, int, float]]) -> None:
    """Once nothing more comes and the worker is idle, the next turn sends it."""
    pace, now = DispatchPolicy(64, 0.01), 1.0
    for came, computing, passed in turns:
        now += passed
        turn(pace, came, 1, computing, now)
    assert turn(pace, 0, 1, 0, now) is DispatchDecision.GO
