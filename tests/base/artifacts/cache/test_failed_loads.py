from __future__ import annotations

from base.artifacts.cache import failed_loads
from base.artifacts.cache.failed_loads import FailedLoads
from base.errors import LoadFailed

ERROR = LoadFailed("broken")


def test_the_delay_doubles_with_each_failure_in_a_row_up_to_a_maximum() -> None:
    """It is 0.5 s, 1 s, 2 s and so on, and at most 30 s."""
    failures, pauses = FailedLoads(), []
    for _ in range(2_000):
        failures.record_failure("a", ERROR, 100.0)
        pause_s = next(pause for pause in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0) if failures.blocking_error("a", 100.0 + pause) is None)
        assert failures.blocking_error("a", 100.0 + pause_s - 0.01) is ERROR
        pauses.append(pause_s)
    assert pauses[:8] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert pauses[-1] == 30.0


def test_after_a_success_the_next_failure_counts_as_the_first() -> None:
    """Other keys are not affected."""
    failures = FailedLoads()
    for _ in range(5):
        failures.record_failure("a", ERROR, 0.0)
    assert failures.blocking_error("b", 0.0) is None
    failures.record_success("a")
    assert failures.blocking_error("a", 0.0) is None
    failures.record_failure("a", ERROR, 0.0)
    assert failures.blocking_error("a", failed_loads.RETRY.min_s) is None


def test_failures_are_remembered_up_to_a_bound() -> None:
    """A flood of keys costs bounded memory; the oldest failure is forgotten."""
    failures = FailedLoads()
    for key in range(failed_loads.REMEMBERED_MAX + 1):
        failures.record_failure(key, ERROR, 0.0)
    assert failures.blocking_error(0, 0.0) is None
    assert failures.blocking_error(1, 0.0) is ERROR
