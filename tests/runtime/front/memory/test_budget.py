"""Limits of the shared memory of a release."""

from __future__ import annotations

import pytest

from runtime.front.memory.budget import release_max_bytes


def test_a_lone_release_may_use_all_shared_memory() -> None:
    """There is nobody else."""
    assert release_max_bytes(1000, 1) == 1000
    assert release_max_bytes(1000, 0) == 1000


@pytest.mark.parametrize("releases", [2, 3, 10, 100])
def test_a_release_that_uses_all_it_may_leaves_each_other_half_of_an_equal_share(releases: int) -> None:
    """For any number of releases."""
    whole = 1_000_000
    assert whole - release_max_bytes(whole, releases) == pytest.approx((releases - 1) * whole / releases / 2, abs=1)
