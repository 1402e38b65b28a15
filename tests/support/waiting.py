"""Waiting for events elsewhere, by polling with a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable

DEADLINE_S = 60.0
"""Long, since a test machine may be busy; what is right is there long before."""


def until(condition: Callable[[], object], what: str = "it should have become so", deadline_s: float = DEADLINE_S) -> None:
    """Waits until the condition is true; a failure names `what`."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
