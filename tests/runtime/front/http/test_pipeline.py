"""The order of responses on one connection."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.front.http.pipeline import ResponsePipeline


@given(st.permutations(range(6)), st.integers(0, 6))
def test_responses_are_due_in_the_order_of_the_requests(ready: list[int], lost_after: int) -> None:
    """Whichever is ready first. When the connection is lost, the requests without a response are dropped."""
    pipeline: ResponsePipeline[int, str] = ResponsePipeline()
    for i in range(6):
        pipeline.requests[str(i)] = i
    due: list[str] = []
    for i in ready[:lost_after]:
        due += pipeline.respond(str(i), f"response {i}")
        assert due == [f"response {j}" for j in range(len(due))]
        assert len(pipeline.requests) == 6 - len(due)
    assert set(pipeline.drop()) == set(ready[lost_after:])
    assert len(pipeline.requests) == 0


def test_a_response_without_a_request_changes_nothing() -> None:
    """It is an error of our own code."""
    pipeline: ResponsePipeline[int, str] = ResponsePipeline()
    pipeline.requests["a"] = 1
    with pytest.raises(KeyError):
        pipeline.respond("b", "lost")
    assert pipeline.respond("a", "found") == ["found"]
