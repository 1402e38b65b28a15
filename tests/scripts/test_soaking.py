"""What the soak would say if a promise were broken."""

import pytest

from soaking.counts import Counts
from soaking.growth import Growth, thirds

ROWS = [{"x": 7}, {"x": 8}]


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 9, "release": 1}]}),  # somebody else's row
        (200, {"predictions": [{"x": 8, "release": 1}, {"x": 7, "release": 1}]}),  # not in order
        (200, {"predictions": [{"x": 7, "release": 1}]}),  # one is missing
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 8, "release": 2}]}),  # two releases
        (200, {"predictions": [{"x": 7, "release": 3}, {"x": 8, "release": 3}]}),  # one that was never dropped
        (500, {"code": "model_failed"}),
        (504, {}),
    ],
)
def test_an_answer_that_should_not_be_is_a_fault(status, said):
    """Wrong rows, wrong releases, and statuses that nothing excuses."""
    counts = Counts()
    counts.answer("quick", ROWS, status, said, newest=2)
    assert len(counts.faults) == 1


def test_an_answer_with_its_own_rows_or_a_refusal_is_none():
    """And both are counted."""
    counts = Counts()
    counts.answer("quick", ROWS, 200, {"predictions": [{"x": 7, "release": 2}, {"x": 8, "release": 2}]}, newest=2)
    counts.answer("quick", ROWS, 503, {"code": "full"}, newest=2)
    assert (counts.faults, dict(counts.statuses)) == ([], {("quick", "200"): 1, ("quick", "503 full"): 1})


def test_what_goes_on_growing_is_found_and_what_was_learned_early_is_not():
    """The first third is for learning."""
    growth = Growth()
    growth.memory_bytes = {"leaks": [each * 10_000_000 for each in range(12)], "learns": [0, 10, 50, 90, *[100] * 8]}
    growth.descriptors = {"leaks": list(range(0, 60, 5)), "learns": [20] * 12}
    assert [each.split(" ")[0] for each in growth.found()] == ["leaks", "leaks"]
    assert thirds([1, 1, 1, 2, 2, 2, 3, 3, 3]) == (2, 3)
