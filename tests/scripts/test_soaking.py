"""What the soak would say if a promise were broken."""

import pytest

from soaking.counts import Asked, Counts
from soaking.growth import Growth, thirds

ASKED = Asked("quick sender", "quick", [{"x": 7}, {"x": 8}], at_s=100.0)
BLAMED = {"code": "handler_failed", "detail": "2 workers exited while they had this request, the last while it computed nothing else"}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 9, "release": 1}]}),  # somebody else's row
        (200, {"predictions": [{"x": 8, "release": 1}, {"x": 7, "release": 1}]}),  # not in order
        (200, {"predictions": [{"x": 7, "release": 1}]}),  # one is missing
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 8, "release": 2}]}),  # two releases
        (200, {"predictions": [{"x": 7, "release": 3}, {"x": 8, "release": 3}]}),  # one that was never dropped
        (500, {"code": "handler_failed", "detail": "its handler raised"}),
        (500, BLAMED),
        (504, {}),
    ],
)
def test_an_answer_that_should_not_be_is_a_fault(status, said):
    """Wrong rows, wrong releases, and statuses that nothing excuses."""
    counts = Counts()
    counts.answer(ASKED, status, said, newest=2)
    assert len(counts.faults) == 1


def test_an_answer_with_its_own_rows_or_a_refusal_is_none():
    """And both are counted."""
    counts = Counts()
    counts.answer(ASKED, 200, {"predictions": [{"x": 7, "release": 2}, {"x": 8, "release": 2}]}, newest=2)
    counts.answer(ASKED, 503, {"code": "full"}, newest=2)
    assert (counts.faults, dict(counts.statuses)) == ([], {("quick sender", "200"): 1, ("quick sender", "503 full"): 1})


@pytest.mark.parametrize(("kills", "faults"), [([99.0, 101.0], 1), ([101.0, 102.0], 0)])
def test_a_request_whose_workers_were_killed_twice_by_chance_is_no_fault(kills, faults):
    """Those of its own model, since it was asked."""
    counts = Counts()
    counts.kills["quick"] += kills
    counts.kills["slow"] += [103.0, 104.0]
    counts.answer(ASKED, 500, BLAMED, newest=2)
    assert len(counts.faults) == faults


def test_what_goes_on_growing_is_found_and_what_was_learned_early_is_not():
    """The first third is for learning."""
    growth = Growth()
    growth.memory_bytes = {"leaks": [each * 10_000_000 for each in range(12)], "learns": [0, 10, 50, 90, *[100] * 8]}
    growth.descriptors = {"leaks": list(range(0, 60, 5)), "learns": [20] * 12}
    assert [each.split(" ")[0] for each in growth.found()] == ["leaks", "leaks"]
    assert thirds([1, 1, 1, 2, 2, 2, 3, 3, 3]) == (2, 3)
