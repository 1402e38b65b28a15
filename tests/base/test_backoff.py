from __future__ import annotations

from base.backoff import Backoff


def test_the_delay_doubles_up_to_a_cap_and_a_long_life_resets_it() -> None:
    """0.2 s is enough after one crash; a crash loop is retried every 30 s."""
    backoff = Backoff(0.2, 30.0)
    assert [backoff.delay_s(failures) for failures in (1, 2, 3, 8, 9, 100_000)] == [0.2, 0.4, 0.8, 25.6, 30.0, 30.0]
    assert backoff.count_failure(5, worked_s=29.9) == 6
    assert backoff.count_failure(5, worked_s=30.0) == 1
    assert [Backoff(0.2, 30.0, reset_s=1.0).count_failure(5, worked_s) for worked_s in (0.9, 1.0)] == [6, 1]
