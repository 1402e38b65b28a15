"""A short soak test; `scripts/soak --minutes 60` is the long one."""

import asyncio

import pytest

from soaking.plan import Plan
from soaking.run import soak

pytestmark = pytest.mark.alone  # it measures what grows, and kills and floods all the time

SEED = 20260131


@pytest.mark.timeout(400)
def test_nothing_is_wrong_or_lost_or_grows_whatever_fails_under_load(tmp_path):
    """Each request gets one response, of its own rows and model, unless its front door was killed. In the end everything is as before."""
    report = asyncio.run(soak(tmp_path, Plan(SEED, seconds=150)))
    assert report.broken == [], report.text  # which begins with the seed
