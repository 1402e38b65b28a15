"""Answers to the same row are compared by value, with room for the noise of sums."""

from decimal import Decimal

import pytest

from base.worker.answers import AnswerComparison


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (100.0, 100.09, True),
        (100.0, 100.11, False),
        (1e-7, 9e-7, True),  # beside a largest number of 100
        (999, 1000, True),
        (7, 8, False),
        (float("nan"), None, True),
        (None, 0.0, False),
        (float("inf"), float("-inf"), False),
        (Decimal("1.5"), 1.5, True),
        (True, False, False),
        ("a", "a ", False),
        ([1.0, None], [1.0, float("nan")], True),
        ([1.0], [1.0, 1.0], False),
        ({"a": 1}, {"a": 1, "b": None}, True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
    ],
)
def test_answers_are_compared_by_value(one: object, other: object, same: bool) -> None:
    comparison = AnswerComparison()
    comparison.learn([{"y": 100.0}])
    assert (comparison.differing_column({"y": one}, {"y": other}) is None) == same
