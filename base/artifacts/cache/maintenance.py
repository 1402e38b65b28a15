"""The work of a cache that becomes due with time: refreshes, the eviction of unused models, and the time limits of loads."""

from __future__ import annotations

from collections.abc import Callable

from base.artifacts.cache.entry import Entry
from base.artifacts.cache.entry_table import EntryTable
from base.artifacts.cache.loader import EntryLoader, still_loading
from base.artifacts.cache.schedule import RefreshSchedule
from base.artifacts.config import CacheConfig

WALL_CHECK_S = 60.0
"""Interval at which a cron schedule is checked, since the wall clock may be set, and continues while the machine is suspended."""


class CacheMaintenance:
    """Does the work that is due for the entries of one cache, and returns the time until the next work.

    Args:
        config: The time to live of an unused model, and the time limit of a load.
        clock: Returns monotonic seconds.
        table: The entries.
        schedule: Says when a refresh is due.
        loader: Starts refreshes.
    """

    def __init__(
        self, config: CacheConfig, clock: Callable[[], float], table: EntryTable, schedule: RefreshSchedule, loader: EntryLoader
    ) -> None:
        self._ttl_s = None if config.ttl is None else config.ttl.total_seconds()
        self._load_timeout_s = config.load_timeout_s
        self._clock = clock
        self._table = table
        self._schedule = schedule
        self._loader = loader

    def run_due(self) -> float | None:
        """Does everything that is due; returns the seconds until the next work, or None. Runs on the timer's thread."""
        with self._table.lock:
            overdue = [
                pending
                for entry in self._table.order
                if entry.copy is None and self._loader.is_overdue(entry)
                for pending in entry.take_waiters()
            ]
            if self._ttl_s is not None:
                for entry in self._table.order.unused_since(self._clock() - self._ttl_s):
                    self._table.evict(entry)
            planned = [self._run_due_of(entry) for entry in self._table.order]
        for pending in overdue:
            pending.finish(still_loading())
        return min((each for each in planned if each is not None), default=None)

    def _run_due_of(self, entry: Entry) -> float | None:
        """Begins the entry's refresh if it is due; returns the seconds until the entry's next work, or None."""
        if entry.copy is None:
            timeout_s = self._load_timeout_s
            return entry.since_s + timeout_s - self._clock() if timeout_s is not None and entry.waiters else None
        planned = []
        if self._ttl_s is not None:
            planned.append(self._ttl_s - (self._clock() - entry.used_at_s if entry.idle else 0.0))
        if entry.due is not None and not entry.queued:
            entry.due = self._schedule.corrected(entry.due)
            remaining_s = self._schedule.remaining_s(entry.due)
            if remaining_s > 0 or not self._loader.start_refresh(entry):
                planned.append(min(remaining_s, WALL_CHECK_S) if entry.due.by_wall else remaining_s)
        return min(planned, default=None)
