"""Starts the loads and refreshes of a cache's entries, and records how each ended."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from base.artifacts.cache.entry import Entry, LoadedCopy, Pending, reason_of
from base.artifacts.cache.entry_table import EntryTable
from base.artifacts.cache.failed_loads import FailedLoads
from base.artifacts.cache.keys import Key, key_of
from base.artifacts.cache.load import load_copy
from base.artifacts.cache.loader_threads import LoaderThreads, LoadPriority, Timer
from base.artifacts.cache.schedule import DueRefresh, RefreshSchedule
from base.artifacts.config import CacheConfig
from base.errors import AuthorError, Full, LoadFailed, NotFound, PexdockError, Unavailable
from base.forks import OwnProcess
from base.log import get_logger, log_incident

log = get_logger(__name__)

QUEUED_LOADS_MAX = 1_000
"""Maximum number of first loads that wait for a thread. A flood of made-up parameters is refused rather than queued."""


class EntryLoader:
    """Loads and refreshes the entries of one cache on its loader threads.

    Args:
        config: Client, loader, spec and the time limit of a load.
        clock: Returns monotonic seconds.
        table: The entries.
        failed_loads: The loads that failed, guarded by the table's lock.
        schedule: Plans the next refresh.
        threads: Run the loads.
        timer: Poked whenever something may be due earlier than before.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the parts of one cache, which builds it
        self,
        config: CacheConfig,
        clock: Callable[[], float],
        table: EntryTable,
        failed_loads: FailedLoads[Key],
        schedule: RefreshSchedule,
        threads: LoaderThreads,
        timer: Timer,
    ) -> None:
        self._config = config
        self._clock = clock
        self._table = table
        self._failed_loads = failed_loads
        self._schedule = schedule
        self._threads = threads
        self._timer = timer
        self._process = OwnProcess()

    def start_load(self, entry: Entry) -> None:
        """Adds a new entry and queues its first load. The caller holds the table's lock.

        Raises:
            Full: Too many first loads are queued.
        """
        if self._threads.queued(LoadPriority.LOAD) >= QUEUED_LOADS_MAX:
            raise Full(f"{QUEUED_LOADS_MAX} models are waiting to be loaded, which is the limit; try again later")
        self._table.order.add_entry(entry)
        self._threads.submit(LoadPriority.LOAD, functools.partial(self._load, entry))
        if self._config.load_timeout_s is not None:
            self._timer.poke()

    def start_refresh(self, entry: Entry) -> bool:
        """Queues a refresh unless the entry is being loaded or refreshed. Returns True if it did. The caller holds the lock."""
        if entry.copy is None or entry.queued or self._table.closed:
            return False
        entry.queued = True
        self._threads.submit(LoadPriority.REFRESH, functools.partial(self._load, entry))
        return True

    def is_overdue(self, entry: Entry) -> bool:
        """Returns True if the load of the entry takes longer than requests may wait for it."""
        timeout_s = self._config.load_timeout_s
        return timeout_s is not None and self._clock() - entry.since_s >= timeout_s

    def _load(self, entry: Entry) -> None:
        """Loads or refreshes the entry. Runs on a loader thread."""
        with self._table.lock:
            if not self._table.order.holds(entry):
                return  # it was evicted or abandoned while it was queued
            entry.begun = True
            known = None if entry.copy is None else entry.copy.artifact
        began_s = self._clock()
        try:
            copy = load_copy(self._config, entry.requested, entry.parameters, known)
        except PexdockError as exc:
            self._process.end_if_forked(exc)
            if isinstance(exc, AuthorError):
                where = log_incident(log, f"cannot load the model for {entry.parameters}: {exc.detail}", exc.__cause__)
                failure = exc.copy_for_caller(detail=f"{exc.detail}; {where}")
                failure.__cause__ = exc.__cause__
                self._record_failure(entry, failure)
            else:
                self._record_failure(entry, exc)
        except BaseException as exc:  # noqa: BLE001 - SystemExit too: otherwise its waiters would wait forever. Other loads are not affected.
            self._process.end_if_forked(exc)
            where = log_incident(log, f"load_model failed for {entry.parameters}", exc)
            failed = LoadFailed(f"load_model raised {type(exc).__name__} for {_shown(entry.parameters)}; {where}")
            failed.__cause__ = exc
            self._record_failure(entry, failed)
        else:
            self._process.end_if_forked()
            self._record_success(entry, copy, self._clock() - began_s)

    def _record_success(self, entry: Entry, copy: LoadedCopy | None, took_s: float) -> None:
        """Ends a load; `copy` is None if the artifact has not changed."""
        with self._table.lock:
            self._failed_loads.record_success(key_of(entry.parameters))
            entry.since_s, entry.in_a_row, entry.last_error = self._clock(), 0, None
            if copy is None:
                self._table.counters.unchanged += 1
            else:
                self._table.counters.count_load(took_s)
                entry.loads += 1
                self._table.replace_copy(entry, copy)
            waiters = self._finish(entry, self._schedule.after_success())
        for pending in waiters:
            pending.finish()

    def _record_failure(self, entry: Entry, error: PexdockError) -> None:
        key, reason = key_of(entry.parameters), reason_of(error)
        with self._table.lock:
            self._table.counters.count_failure()
            entry.failures += 1
            entry.in_a_row += 1
            entry.last_error = reason
            if entry.copy is None:
                entry.error = error
                self._table.order.remove(entry)
                # A missing artifact is not remembered: looking for it costs little, and it may have appeared.
                if isinstance(error, LoadFailed | Unavailable):
                    self._failed_loads.record_failure(key, error.copy_for_caller(), self._clock(), reason)
            elif self._config.evict_missing and isinstance(error, NotFound):
                self._table.evict(entry)
            waiters = self._finish(entry, self._schedule.after_failure(entry.in_a_row))
        for pending in waiters:
            pending.finish()

    def _finish(self, entry: Entry, due: DueRefresh | None) -> list[Pending]:
        """Plans the next refresh and returns the waiters, which must be finished without the lock. The caller holds the lock."""
        entry.queued = entry.begun = False
        entry.due = due
        waiters = entry.take_waiters()
        self._table.make_room()
        if due is not None or self._config.ttl is not None:
            self._timer.poke()
        return waiters


def still_loading() -> Unavailable:
    """Returns the error for requests that waited too long for a load."""
    return Unavailable("the model is still loading; try again later")


def _shown(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "no parameters"
