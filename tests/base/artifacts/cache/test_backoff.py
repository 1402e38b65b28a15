from __future__ import annotations

from base.artifacts.cache import backoff
from base.artifacts.cache.backoff import BackOff
from base.errors import LoadFailed

ERROR = LoadFailed("broken")


def test_the_pause_doubles_with_each_failure_in_a_row_up_to_a_most() -> None:
    """Half a second, one, two ... and thirty at most, however often it fails."""
    failures, pauses = BackOff(), []
    for _ in range(2_000):
        failures.failed("a", ERROR, 100.0)
        pause_s = next(pause for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0) if failures.barring("a", 100.0 + pause) is None)
        assert failures.barring("a", 100.0 + pause_s - 0.01) is ERROR
        pauses.append(pause_s)
    assert pauses[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pauses[-1] == 30.0


def test_after_a_success_the_next_failure_is_a_first_one() -> None:
    """And other keys are not concerned."""
    failures = BackOff()
    for _ in range(5):
        failures.failed("a", ERROR, 0.0)
    assert failures.barring("b", 0.0) is None
    failures.succeeded("a")
    assert failures.barring("a", 0.0) is None
    failures.failed("a", ERROR, 0.0)
    assert failures.barring("a", backoff.FIRST_S) is None


def test_failures_are_remembered_up_to_a_bound() -> None:
    """A flood of keys costs no more memory than that; the oldest is forgotten."""
    failures = BackOff()
    for key in range(backoff.REMEMBERED_MAX + 1):
        failures.failed(key, ERROR, 0.0)
    assert failures.barring(0, 0.0) is None
    assert failures.barring(1, 0.0) is ERROR
