"""The faults that a soak test reports when a promise is broken."""

import pytest

from soaking.counts import Counts, SentRequest
from soaking.growth import Growth, thirds

SENT = SentRequest("quick sender", "quick", [{"x": 7}, {"x": 8}], at_s=100.0)
BLAMED = {"code": "handler_failed", "detail": "2 workers exited while they had this request, the last while it computed nothing else"}


@pytest.mark.parametrize(
    ("status", "document"),
    [
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 9, "release": 1}]}),  # the row of another request
        (200, {"predictions": [{"x": 8, "release": 1}, {"x": 7, "release": 1}]}),  # not in order
        (200, {"predictions": [{"x": 7, "release": 1}]}),  # one is missing
        (200, {"predictions": [{"x": 7, "release": 1}, {"x": 8, "release": 2}]}),  # two releases
        (200, {"predictions": [{"x": 7, "release": 3}, {"x": 8, "release": 3}]}),  # one that was never dropped
        (500, {"code": "handler_failed", "detail": "its handler raised"}),
        (500, BLAMED),
        (504, {}),
    ],
)
def test_a_wrong_answer_is_a_fault(status, document):
    """Wrong rows, wrong releases, and statuses without an excuse."""
    counts = Counts()
    counts.add_answer(SENT, status, document, newest=2)
    assert len(counts.faults) == 1


def test_an_answer_with_its_own_rows_or_a_rejection_is_no_fault():
    """Both are counted."""
    counts = Counts()
    counts.add_answer(SENT, 200, {"predictions": [{"x": 7, "release": 2}, {"x": 8, "release": 2}]}, newest=2)
    counts.add_answer(SENT, 503, {"code": "full"}, newest=2)
    assert (counts.faults, dict(counts.statuses)) == ([], {("quick sender", "200"): 1, ("quick sender", "503 full"): 1})


@pytest.mark.parametrize(("kills", "faults"), [([99.0, 101.0], 1), ([101.0, 102.0], 0)])
def test_a_request_whose_workers_were_killed_twice_by_chance_is_no_fault(kills, faults):
    """Only kills of its own model after it was sent count."""
    counts = Counts()
    counts.kills["quick"] += kills
    counts.kills["slow"] += [103.0, 104.0]
    counts.add_answer(SENT, 500, BLAMED, newest=2)
    assert len(counts.faults) == faults


def test_continuous_growth_is_found_and_early_growth_is_not():
    """Caches fill in the first third."""
    growth = Growth()
    growth.memory_bytes = {"leaks": [each * 10_000_000 for each in range(12)], "learns": [0, 10, 50, 90, *[100] * 8]}
    growth.descriptors = {"leaks": list(range(0, 60, 5)), "learns": [20] * 12}
    assert [each.split(" ")[0] for each in growth.violations()] == ["leaks", "leaks"]
    assert thirds([1, 1, 1, 2, 2, 2, 3, 3, 3]) == (2, 3)
