"""What is measured, under which names, and the values of one measure between two reports. Pure: knows no clock, no file and no format.

Children measure and their parent writes. A front door measures requests; a worker measures its handlers and caches. Whatever shows
measures (now `base.telemetry.emf`) takes them as the control word `Measures` has them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from base.ipc.control import ValueSummary


class Unit(StrEnum):
    """Units as CloudWatch spells them."""

    COUNT = "Count"
    MILLISECONDS = "Milliseconds"


@dataclass(frozen=True)
class MetricDefinition:
    """One measure: its unit, and what it is in a sentence."""

    unit: Unit
    description: str


METRICS: Mapping[str, MetricDefinition] = {
    # ---- counted by front doors
    "Requests": MetricDefinition(Unit.COUNT, "Requests that were answered, or whose client hung up first."),
    "Errors": MetricDefinition(
        Unit.COUNT, "Of them, those that failed on our side: a status of 500 or more, be it in the last line of a streamed answer."
    ),
    "ClientErrors": MetricDefinition(Unit.COUNT, "Of them, those that were the client's to change: a status from 400 to 499."),
    "Abandoned": MetricDefinition(Unit.COUNT, "Of them, those whose client hung up before the answer was whole."),
    # ---- values of front doors
    "Latency": MetricDefinition(
        Unit.MILLISECONDS, "Of one answer: from its whole body read to its answer ready to be sent; if streamed, to its end."
    ),
    "QueueTime": MetricDefinition(
        Unit.MILLISECONDS, "Of one request: from its rows decoded to its batch sent to a worker for the first time."
    ),
    "BatchSize": MetricDefinition(Unit.COUNT, "Rows of one batch that was sent to a worker, also when it is a part of one that failed."),
    # ---- counted by workers
    "CacheHits": MetricDefinition(Unit.COUNT, "Batches that found their model loaded."),
    "CacheMisses": MetricDefinition(Unit.COUNT, "Batches that did not: they waited for it, or were refused."),
    "Loads": MetricDefinition(Unit.COUNT, "Models loaded, for the first time or to replace a stale one."),
    "LoadFailures": MetricDefinition(Unit.COUNT, "Loads that failed, those of artifacts that are not there included."),
    "Evictions": MetricDefinition(Unit.COUNT, "Models dropped to make room, or because nobody used them."),
    # ---- values of workers
    "HandlerTime": MetricDefinition(Unit.MILLISECONDS, "Of one batch: the call of its handler and the check of its result."),
    "LoadTime": MetricDefinition(Unit.MILLISECONDS, "Of one load that ended well: finding, fetching and loading its artifact."),
}
"""Every measure by its name."""

_FOLD = 1024
"""Values that are only kept until they are looked at together: that is four times as cheap as looking at each."""


class Reservoir:
    """The values of one measure since it was made: count, sum, smallest and largest are exact; of the values a uniform sample is kept.

    Args:
        values_max: size of the sample. So many values or fewer are all kept.
    """

    __slots__ = ("_count", "_fresh", "_max", "_min", "_next", "_sample", "_sum", "_threshold", "_values_max")

    def __init__(self, values_max: int) -> None:
        self._values_max = values_max
        self._fresh: list[float] = []
        self._sample: list[float] = []
        self._count = 0
        self._sum = 0.0
        self._min, self._max = math.inf, -math.inf
        # Algorithm L (Li 1994): which value, counted from 0, enters a full sample next. It skips the others without drawing for each.
        self._threshold = 1.0
        self._next = -1

    def __len__(self) -> int:
        return self._count + len(self._fresh)

    def record(self, value: float) -> None:
        """Takes one more value."""
        self._fresh.append(value)
        if len(self._fresh) >= _FOLD:
            self._fold()

    def summary(self) -> ValueSummary:
        """All that is known of them; there must be one at least."""
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
        # 1 - random() lies in (0, 1], of which a logarithm can be taken.
        self._threshold *= math.exp(math.log(1.0 - random.random()) / self._values_max)  # noqa: S311 - as above
        skipped = math.log(1.0 - random.random()) / math.log1p(-self._threshold) if self._threshold < 1.0 else 0.0  # noqa: S311
        self._next += math.floor(skipped) + 1
