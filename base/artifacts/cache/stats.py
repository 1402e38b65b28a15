"""What a cache has done, counted."""

from __future__ import annotations

from dataclasses import dataclass

from base.telemetry.recorder import HandlerMetrics


@dataclass
class CacheCounters:
    """What a cache did since it was made.

    Attributes:
        hits: lookups that found a model ready.
        loads: loads that ended well.
        failures: loads that did not.
        evictions: models dropped to make room, or because nobody used them.
        unchanged: refreshes that found the same artifact.
        measures: of the cache's endpoint, told the same where somebody wants measures.
    """

    hits: int = 0
    loads: int = 0
    failures: int = 0
    evictions: int = 0
    unchanged: int = 0
    measures: HandlerMetrics | None = None

    def loaded(self, seconds: float) -> None:
        """A load has ended well."""
        self.loads += 1
        if self.measures is not None:
            self.measures.increment("Loads")
            self.measures.record_duration("LoadTime", seconds)

    def failed(self) -> None:
        """A load has not."""
        self.failures += 1
        if self.measures is not None:
            self.measures.increment("LoadFailures")

    def evicted(self) -> None:
        """A model was dropped."""
        self.evictions += 1
        if self.measures is not None:
            self.measures.increment("Evictions")
