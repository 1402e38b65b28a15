"""The summary of a stream of values in bounded memory. Pure."""

from __future__ import annotations

import math
import random

from base.ipc.metrics_report import ValueSummary

_FOLD_VALUES = 1024
"""Number of values that are buffered and then folded in together, which is four times as cheap as folding in each one."""


class Reservoir:
    """Summarizes the values of one metric. Count, sum, minimum and maximum are exact; a uniform sample of the values is kept.

    Args:
        values_max: Size of the sample. Up to this number all values are kept.
    """

    __slots__ = ("_count", "_fresh", "_max", "_min", "_next", "_sample", "_sum", "_threshold", "_values_max")

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self._fresh: list[float] = []
        self._sample: list[float] = []
        self._count = 0
        self._sum = 0.0
        self._min, self._max = math.inf, -math.inf
        # Algorithm L (Li 1994): index of the next value that enters a full sample. Values in between need no random number.
        self._threshold = 1.0
        self._next = -1

    def __len__(self) -> int:
        return self._count + len(self._fresh)

    def record(self, value: float) -> None:
        """Adds a value."""
        self._fresh.append(value)
        if len(self._fresh) >= _FOLD_VALUES:
            self._fold()

    def summary(self) -> ValueSummary:
        """Returns the summary of all values so far. There must be at least one."""
        self._fold()
        return ValueSummary(self._count, self._sum, self._min, self._max, self._sample[:])

    def _fold(self) -> None:
        fresh, self._fresh = self._fresh, []
        if not fresh:
            return
        self._sum += math.fsum(fresh)
        self._min, self._max = min(self._min, *fresh), max(self._max, *fresh)
        first, self._count = self._count, self._count + len(fresh)
        room = self._values_max - len(self._sample)
        if room > 0:
            self._sample += fresh[:room]
            if len(self._sample) < self._values_max:
                return
            self._next = self._values_max - 1
            self._skip()
        while self._next < self._count:
            self._sample[random.randrange(self._values_max)] = fresh[self._next - first]  # noqa: S311 - a sample, no secret
            self._skip()

    def _skip(self) -> None:
        # 1 - random() is in (0, 1], so its logarithm is defined.
        self._threshold *= math.exp(math.log(1.0 - random.random()) / self._values_max)  # noqa: S311 - as above
        skipped = math.log(1.0 - random.random()) / math.log1p(-self._threshold) if self._threshold < 1.0 else 0.0  # noqa: S311
        self._next += math.floor(skipped) + 1
