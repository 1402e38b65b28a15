"""Counts the calls of functions that some work makes, Python's and C's: a measure of its amount that does not depend on the machine."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable


def count_calls(work: Callable[[], object]) -> int:
    """Returns the number of calls in this thread."""
    calls = 0

    def on_event(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # finalizers would be counted
    sys.setprofile(on_event)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def growth(prepare: Callable[[int], Callable[[], object]], size: int) -> float:
    """Returns by which factor the work grows from `size` to twice that: 2 if it is linear, 4 if it is quadratic.

    Args:
        prepare: Returns the work for a size.
        size: The smaller size, large enough for what does not depend on it to be small.
    """
    prepare(size)()  # what is made once, such as imports, is not counted
    return count_calls(prepare(2 * size)) / count_calls(prepare(size))
