"""Counters of a cache's work."""

from __future__ import annotations

from dataclasses import dataclass

from base.telemetry.recorder import HandlerMetrics


@dataclass
class CacheCounters:
    """Counts the work of a cache since it was created.

    Attributes:
        hits: Lookups that found a loaded model.
        loads: Successful loads.
        failures: Failed loads.
        evictions: Models evicted to make room, or because they were not used.
        unchanged: Refreshes that found the same artifact.
        metrics: Metrics of the cache's endpoint, which count the same; None if metrics are disabled.
    """

    hits: int = 0
    loads: int = 0
    failures: int = 0
    evictions: int = 0
    unchanged: int = 0
    metrics: HandlerMetrics | None = None

    def count_load(self, seconds: float) -> None:
        """Counts a successful load and records its duration."""
        self.loads += 1
        if self.metrics is not None:
            self.metrics.increment("Loads")
            self.metrics.record_duration("LoadTime", seconds)

    def count_failure(self) -> None:
        """Counts a failed load."""
        self.failures += 1
        if self.metrics is not None:
            self.metrics.increment("LoadFailures")

    def count_eviction(self) -> None:
        """Counts an evicted model."""
        self.evictions += 1
        if self.metrics is not None:
            self.metrics.increment("Evictions")
