"""The loads that failed, and when each may be tried again. Pure: knows no clock, no lock and no cache."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from base.backoff import Backoff
from base.errors import PexdockError

K = TypeVar("K", bound=Hashable)

RETRY = Backoff(0.5, 30.0)
"""The delays after failed loads and refreshes of one key."""
REMEMBERED_MAX = 1_000
"""Maximum number of failures that are remembered. Beyond it, the oldest is forgotten, and its key may be tried at once."""


@dataclass(frozen=True)
class FailedLoad:
    """The last failed load of a key.

    Attributes:
        error: The error that callers get.
        in_a_row: Number of failures in a row.
        retry_at_s: Time from which the load may be tried again.
        reason: Explanation for operators.
    """

    error: PexdockError
    in_a_row: int
    retry_at_s: float
    reason: str


class FailedLoads(Generic[K]):
    """The failed loads by key. Times are seconds of any clock that only grows.

    An error that is kept here should have no traceback: it would keep the memory of the failed load.
    """

    def __init__(self) -> None:
        self._failures: OrderedDict[K, FailedLoad] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[K, FailedLoad]]:
        """Yields every key that failed and was neither loaded nor forgotten since; the latest failure comes last."""
        return iter(self._failures.items())

    def record_failure(self, key: K, error: PexdockError, now_s: float, reason: str = "") -> None:
        """Records that a load failed, perhaps not for the first time."""
        before = self._failures.pop(key, None)
        in_a_row = 1 if before is None else before.in_a_row + 1
        self._failures[key] = FailedLoad(error, in_a_row, now_s + RETRY.delay_s(in_a_row), reason)
        if len(self._failures) > REMEMBERED_MAX:
            self._failures.popitem(last=False)

    def record_success(self, key: K) -> None:
        """Records that a load succeeded, so that the next failure counts as the first."""
        self._failures.pop(key, None)

    def forget(self, key: K | None) -> None:
        """Allows the key to be tried at once; None means all keys."""
        if key is None:
            self._failures.clear()
        else:
            self._failures.pop(key, None)

    def blocking_error(self, key: K, now_s: float) -> PexdockError | None:
        """Returns the error of a failure after which it is too early to try again, or None if the key may be tried."""
        failure = self._failures.get(key)
        return failure.error if failure is not None and now_s < failure.retry_at_s else None
