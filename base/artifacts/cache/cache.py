"""The cache of one endpoint in one worker: maps parameters to models, loads each once for all requests, evicts the least recently used.

The serving thread never waits here. `lookup` returns a `Lease` on a model that is loaded, or a `Pending` for one that a thread of the cache
is loading; that thread calls its `wake` when the load has ended, with or without success, or took too long:

    found = cache.lookup(parameters, wake)          # raises Misfit, Full, LoadFailed (backing off), Unavailable
    if isinstance(found, Pending): park the batch; after wake, if found.done:
        found = found.take_lease()                  # raises the error of the load: NotFound, Misfit, LoadFailed, Unavailable
    with found as model: handler(model, frame)

A `Lease` and a `Pending` each pin their entry: it is not evicted before the lease is released or the wait is cancelled. So a model that was
loaded for a parked batch is still there when the batch resumes, no matter what else was loaded in the meantime.

A refresh loads beside the old model and then replaces it. Leases on the old model keep it until they end; then it is unloaded.

Two sets of parameters that resolve to the same artifact (through a fallback) have two entries, and the artifact is loaded twice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from base.artifacts.cache.entry import Entry, EntryStatus, Lease, Pending, failed_state
from base.artifacts.cache.entry_table import EntryTable
from base.artifacts.cache.failed_loads import FailedLoads
from base.artifacts.cache.keys import CacheKeys, Key, key_of
from base.artifacts.cache.loader import EntryLoader, still_loading
from base.artifacts.cache.loader_threads import LoaderThreads, Timer
from base.artifacts.cache.maintenance import CacheMaintenance
from base.artifacts.cache.schedule import RefreshSchedule
from base.artifacts.cache.stats import CacheCounters
from base.artifacts.config import CacheConfig
from base.errors import PexdockError, Unavailable
from base.ipc.cache_control import EntryState
from base.log import get_logger
from base.telemetry.recorder import HandlerMetrics

__all__ = ["Cache", "CacheCounters", "EntryState", "EntryStatus", "Lease", "Pending"]

log = get_logger(__name__)


class Cache:
    """The cache of one endpoint; see the module docstring. All methods may be called from any thread.

    Args:
        config: Client, loader, spec, size and schedule.
        clock: Returns monotonic seconds.
        wall: Returns seconds since 1970.
        metrics: Metrics of the endpoint; None if metrics are disabled.

    Attributes:
        counters: Counts of the cache's work so far; read-only.
    """

    def __init__(
        self,
        config: CacheConfig,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        metrics: HandlerMetrics | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._keys = CacheKeys(config)
        self.counters = CacheCounters(metrics=metrics)
        self._threads = LoaderThreads()
        self._timer = Timer(self._run_due)
        self._table = EntryTable(config, clock, self._threads, self.counters)
        self._failed_loads: FailedLoads[Key] = FailedLoads()  # guarded by the table's lock
        self._schedule = RefreshSchedule(config.schedule, config.interval, config.jitter, clock, wall)
        self._loader = EntryLoader(config, clock, self._table, self._failed_loads, self._schedule, self._threads, self._timer)
        self._maintenance = CacheMaintenance(config, clock, self._table, self._schedule, self._loader)

    def entry_states(self) -> list[EntryState]:
        """Returns the recent failures that left no entry, followed by the state of every entry, the last used one at the end."""
        with self._table.lock:
            now_s = self._clock()
            states = {
                key_of(entry.parameters): entry.describe(now_s, None if entry.due is None else self._schedule.remaining_s(entry.due))
                for entry in self._table.order
            }
            failed = [failed_state(dict(key), each, now_s) for key, each in self._failed_loads if key not in states]
            return failed + list(states.values())

    def lookup(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending:
        """Returns the model for these parameters, in any order. Never waits for a load.

        Args:
            parameters: The parameters of the request.
            wake: Called once for a returned `Pending`, from a thread of the cache. It must return at once and not raise.

        Raises:
            Misfit: The spec rejects the parameters.
            LoadFailed: A recent load for these parameters failed, and it is too early to retry.
            Full: Too many loads are queued.
            Unavailable: The cache is closed, the store failed recently, or the load takes longer than a request may wait.
        """
        key = self._keys.known_key(key_of(parameters))
        if key is not None:
            with self._table.lock:
                found = self._find(key, wake)
            if found is not None:
                return found
        validated = self._keys.validate(parameters)
        with self._table.lock:
            # Another thread may have begun the same load while the spec was applied.
            return self._find(key_of(validated), wake) or self._begin_load(dict(parameters), validated, wake)

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Checks that there may be an entry for these parameters, without asking the store.

        Raises:
            Misfit: The spec rejects them.
            LoadFailed: The spec raised an unexpected exception.
        """
        if self._keys.known_key(key_of(parameters)) is None:
            self._keys.validate(parameters)

    def prefetch(self, names: Sequence[str]) -> int:
        """Begins to load the artifacts that the client lists, newest first, up to the size of the cache.

        Reads the store, which may take long.

        Args:
            names: The parameters of the endpoint's path. Artifacts with other parameters cannot be requested and are skipped.

        Returns:
            The number of loads that were begun.
        """
        listed = (dict(found) for found in self._config.client.list() if set(found) == set(names))
        begun = 0
        for parameters in islice(listed, self._config.max_size):
            try:
                found = self.lookup(parameters, _ignore)
            except PexdockError as exc:
                log.warning("%s: not prefetched: %s", parameters, exc)
                continue
            if isinstance(found, Pending):
                found.cancel()
                begun += 1
            else:
                found.release()
        return begun

    def refresh(self, parameters: Mapping[str, str] | None = None) -> int:
        """Begins to refresh one entry, or all. The next request may retry a failed load at once.

        Args:
            parameters: The parameters of the entry, as a request gives them; None for all entries.

        Returns:
            The number of refreshes that were begun; missing entries and those that are being loaded or refreshed do not count.

        Raises:
            Misfit, LoadFailed: Raised by the spec, as in `lookup`.
        """
        key = None if parameters is None else key_of(self._keys.validate(parameters))
        with self._table.lock:
            self._failed_loads.forget(key)
            return sum(self._loader.start_refresh(entry) for entry in self._table.order if key is None or key_of(entry.parameters) == key)

    def close(self, timeout_s: float = 5.0) -> bool:
        """Refuses further lookups, fails queued loads with Unavailable, waits for running ones, and unloads the models. Idempotent.

        Returns:
            True if all loader threads ended in time. The others are daemon threads and end with the process.
        """
        self._timer.close()
        with self._table.lock:
            self._threads.drop_loads()
            abandoned = self._table.close()
        for pending in abandoned:
            pending.finish(Unavailable("the worker is shutting down"))
        return self._threads.join(timeout_s)

    def _find(self, key: Key, wake: Callable[[], None]) -> Lease | Pending | None:
        """Returns the model of an entry, or a wait for it; None if there is no entry. The caller holds the lock."""
        if self._table.closed:
            raise Unavailable("the worker is shutting down")
        entry = self._table.order.mark_used(key)
        if entry is None:
            failure = self._failed_loads.blocking_error(key, self._clock())
            if failure is not None:
                raise failure.copy_for_caller()
            return None
        if entry.copy is not None:
            self.counters.hits += 1
            return self._table.lease(entry, entry.copy)
        if self._loader.is_overdue(entry):
            raise still_loading()
        return self._table.wait_for(entry, wake)

    def _begin_load(self, requested: dict[str, str], validated: dict[str, str], wake: Callable[[], None]) -> Pending:
        """Adds a new entry and begins its load. The caller holds the lock."""
        entry = Entry(requested, validated, self._clock())
        self._loader.start_load(entry)
        return self._table.wait_for(entry, wake)

    def _run_due(self) -> float | None:
        return self._maintenance.run_due()


def _ignore() -> None:
    """Wakes nobody: prefetching does not wait for its loads."""
