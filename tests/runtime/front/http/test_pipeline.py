"""The order of answers on one connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.front.http.pipeline import ResponsePipeline


@given(st.permutations(range(6)), st.integers(0, 6))
def test_answers_are_due_in_the_order_of_the_requests(ready: list[int], lost_after: int) -> None:
    """Whichever is ready first; and what is lost is what was not ready."""
    turns: ResponsePipeline[int, str] = ResponsePipeline()
    for i in range(6):
        turns.begin(str(i))
        turns.attach(str(i), i)
    due: list[str] = []
    for i in ready[:lost_after]:
        due += turns.answered(str(i), f"answer {i}")
        assert due == [f"answer {j}" for j in range(len(due))]
        assert len(turns) == 6 - len(due)
    assert set(turns.drop()) == set(ready[lost_after:])
    assert len(turns) == 0


def test_an_answer_that_nobody_waits_for_changes_nothing() -> None:
    """It is an error of ours."""
    turns: ResponsePipeline[int, str] = ResponsePipeline()
    turns.begin("a")
    with pytest.raises(KeyError):
        turns.answered("b", "lost")
    assert turns.answered("a", "found") == ["found"]
