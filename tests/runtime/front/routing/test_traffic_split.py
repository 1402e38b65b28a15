"""What one release may take of what all share."""

from __future__ import annotations

import pytest

from runtime.front.memory.budget import shared


def test_a_lone_release_may_take_all() -> None:
    """Nobody else is there."""
    assert shared(1000, 1) == 1000
    assert shared(1000, 0) == 1000


@pytest.mark.parametrize("releases", [2, 3, 10, 100])
def test_one_that_takes_all_it_may_leaves_each_other_half_of_an_even_share(releases: int) -> None:
    """However many there are."""
    whole = 1_000_000
    assert whole - shared(whole, releases) == pytest.approx((releases - 1) * whole / releases / 2, abs=1)
