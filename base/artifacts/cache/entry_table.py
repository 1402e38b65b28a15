"""The entries of a cache: the leases and waits that pin them, their eviction, and the unloading of their models."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

from base.artifacts.cache.entry import Entry, Lease, LoadedCopy, Pending
from base.artifacts.cache.loader_threads import LoaderThreads, LoadPriority
from base.artifacts.cache.lru import LruOrder
from base.artifacts.cache.stats import CacheCounters
from base.artifacts.config import CacheConfig
from base.log import get_logger

log = get_logger(__name__)


class EntryTable:
    """Holds the entries of one cache and decides which of their models stay in memory.

    The caller holds the lock during every method, except for methods whose docstring says that they take it. No author's code runs
    under the lock.

    Args:
        config: The bounds of the cache, and the author's `unload`.
        clock: Returns monotonic seconds.
        threads: Run `unload`.
        counters: Count the work of the cache.

    Attributes:
        lock: Guards the table, the entries, the counters and the failed loads of the cache.
        order: The entries in the order of their use.
        closed: True once the cache is closed; every idle entry is then evicted.
    """

    def __init__(self, config: CacheConfig, clock: Callable[[], float], threads: LoaderThreads, counters: CacheCounters) -> None:
        self.lock = threading.Lock()
        self.order = LruOrder(config.max_size, config.max_bytes)
        self.closed = False
        self.counters = counters
        self._author_unload = config.unload
        self._clock = clock
        self._threads = threads

    def lease(self, entry: Entry, copy: LoadedCopy) -> Lease:
        """Returns a lease that pins the model."""
        entry.used_at_s = self._clock()
        copy.pins += 1
        return Lease(entry, copy, self._release)

    def wait_for(self, entry: Entry, wake: Callable[[], None]) -> Pending:
        """Returns a wait for the load of the entry, which pins the entry."""
        pending = Pending(entry, self._lease_after_wait, self._end_wait, wake)
        entry.waiters.append(pending)
        entry.waits += 1
        return pending

    def replace_copy(self, entry: Entry, copy: LoadedCopy) -> None:
        """Gives the entry a newly loaded model in place of its old one."""
        before, entry.copy = entry.copy, copy
        self._retire(before)
        if before is None:
            entry.used_at_s = self._clock()
        elif not self.order.holds(entry):  # it was evicted while it was refreshed
            self._retire(copy)

    def make_room(self) -> None:
        """Evicts the entries beyond the bounds, or all idle entries once the cache is closed."""
        for entry in self.order.idle_entries() if self.closed else self.order.surplus():
            self.evict(entry)

    def evict(self, entry: Entry) -> None:
        """Removes the entry and unloads its model once its last lease ends."""
        if not self.closed:
            self.counters.count_eviction()
        self.order.remove(entry)
        self._retire(entry.copy)

    def close(self) -> list[Pending]:
        """Evicts all idle entries and removes those whose load has not begun.

        Returns the waits for the removed entries, which the caller must finish.
        """
        self.closed = True
        abandoned: list[Pending] = []
        for entry in self.order:
            if not entry.begun and entry.copy is None:
                self.order.remove(entry)
                abandoned += entry.take_waiters()
        self.make_room()
        return abandoned

    def _lease_after_wait(self, entry: Entry) -> Lease:
        """Turns a wait into a lease. Takes the lock."""
        with self.lock:
            assert entry.copy is not None
            entry.waits -= 1
            return self.lease(entry, entry.copy)

    def _end_wait(self, entry: Entry) -> None:
        """Ends a wait without a lease. Takes the lock."""
        with self.lock:
            entry.waits -= 1
            self.make_room()

    def _release(self, entry: Entry, copy: LoadedCopy) -> None:
        """Ends a lease. Takes the lock."""
        with self.lock:
            entry.used_at_s = self._clock()
            copy.pins -= 1
            if copy.retired and copy.pins == 0:
                self._unload(copy)
            self.make_room()

    def _retire(self, copy: LoadedCopy | None) -> None:
        if copy is not None and not copy.retired:
            copy.retired = True
            if copy.pins == 0:
                self._unload(copy)

    def _unload(self, copy: LoadedCopy) -> None:
        self._threads.submit(LoadPriority.UNLOAD, functools.partial(unload_copy, copy, self._author_unload))


def unload_copy(copy: LoadedCopy, unload: Callable[[object], object] | None) -> None:
    """Unloads a model without leases, and releases its artifact. Runs on a loader thread."""
    try:
        if unload is not None:
            unload(copy.model)
    except BaseException:  # the author's code may raise anything; the cache drops the model anyway
        log.exception("unload raised")
    copy.model = None
    if copy.artifact is not None:
        copy.artifact.release()
