"""How long a failed load is not tried again. Pure: knows no clock, no lock and no cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from base.errors import PexdockError

K = TypeVar("K", bound=Hashable)

FIRST_S, MOST_S = 0.5, 30.0
"""The pause after the first failure and the longest one; it doubles with each failure in a row."""
REMEMBERED_MAX = 1_000
"""Failures remembered; beyond it the oldest is forgotten, and may be tried at once."""


def pause_s(in_a_row: int) -> float:
    """After so many failures in a row, at least one."""
    return min(FIRST_S * 2.0 ** min(in_a_row - 1, 10), MOST_S)


@dataclass(frozen=True)
class Failure:
    """The last failed load of a key: for callers, how many there were in a row, when it may be tried again, and for operators."""

    error: PexdockError
    in_a_row: int
    retry_at_s: float
    reason: str


class BackOff(Generic[K]):
    """Failed loads by key. Times are seconds of any clock that only grows.

    An error that is kept here should have no traceback: it would keep the memory of the failed load.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[K, Failure] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[K, Failure]]:
        """What failed and has not been loaded or forgotten since, the last failure at the end."""
        return iter(self._failures.items())

    def failed(self, key: K, error: PexdockError, now_s: float, reason: str = "") -> None:
        """The load failed, perhaps not for the first time."""
        before = self._failures.pop(key, None)
        in_a_row = 1 if before is None else before.in_a_row + 1
        self._failures[key] = Failure(error, in_a_row, now_s + pause_s(in_a_row), reason)
        if len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, key: K) -> None:
        """The next failure is a first one."""
        self._failures.pop(key, None)

    def forget(self, key: K | None) -> None:
        """Whatever failed may be tried at once; None means all keys."""
        if key is None:
            self._failures.clear()
        else:
            self._failures.pop(key, None)

    def barring(self, key: K, now_s: float) -> PexdockError | None:
        """The failure for which it is too early to try again; None if it may be tried."""
        failure = self._failures.get(key)
        return failure.error if failure is not None and now_s < failure.retry_at_s else None
