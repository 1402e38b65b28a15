"""The cache of one endpoint in one worker: models by parameters, loaded once however many ask, the least used dropped.

The serving thread never waits here. `lookup` returns a `Lease` on a model that is there, or a `Pending` for one that is being loaded on a
thread of the cache; its `wake` is called, on such a thread, when the load has ended either way or took too long:

    found = cache.lookup(parameters, wake)          # raises Misfit, Full, LoadFailed (backing off), Unavailable
    if isinstance(found, Pending): park the batch; after wake, where found.done:
        found = found.lease()                       # raises what the load raised: NotFound, Misfit, LoadFailed, Unavailable
    with found as model: handler(model, frame)

A lease and a pending each pin their entry: it is not evicted until the lease is released or the pending cancelled. So a model that was
loaded for a parked batch is still there when the batch comes back, whatever else was loaded meanwhile.

A refresh loads beside the old model and swaps the whole. Leases on the old one keep it until they end; then it is unloaded.

Two sets of parameters that lead to one artifact (a fallback) are two entries, and it is loaded twice.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

from base.artifacts.cache.failed_loads import FailedLoads
from base.artifacts.config import CacheConfig
from base.artifacts.cache.stats import CacheCounters
from base.artifacts.cache.entry import LoadedCopy, Entry, Lease, Pending, EntryStatus, failed_state, reason_of
from base.artifacts.cache.loader_threads import Timer, LoaderThreads, LoadPriority
from base.artifacts.cache.load import load_copy
from base.artifacts.cache.keys import Key, CacheKeys, key_of
from base.artifacts.cache.schedule import DueRefresh, RefreshSchedule
from base.artifacts.cache.lru import LruOrder
from base.errors import Full, LoadFailed, PexdockError, Unavailable
from base.ipc.cache_control import EntryState
from base.telemetry.recorder import HandlerMetrics

__all__ = ["Cache", "CacheCounters", "EntryState", "Lease", "Pending", "EntryStatus"]

log = logging.getLogger(__name__)

LOADING_MAX = 1_000
"""Artifacts that may wait for a loader; a flood of made-up parameters is refused rather than queued."""
WALL_CHECK_S = 60.0
"""A schedule means the clock on the wall, which may be set, and goes on while the machine sleeps; so it is looked at this often."""


class Cache:
    """See the module. All methods may be called from any thread.

    Args:
        config: client, loader, spec, size and schedule.
        clock: seconds that only grow.
        wall: seconds since 1970.
        measures: of the endpoint; None where nobody wants them.

    Attributes:
        counters: to be read only.
    """

    def __init__(
        self,
        config: CacheConfig,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        measures: HandlerMetrics | None = None,
    ) -> None:
        self._config = config
        self._clock = clock
        self._schedule = RefreshSchedule(config.schedule, config.interval, config.jitter, clock, wall)
        self._lock = threading.Lock()  # guards all below; nothing of an author's is called under it
        self._names = CacheKeys(config)
        self._shelf = LruOrder(config.max_size, config.max_bytes)
        self._failed_loads: FailedLoads[Key] = FailedLoads()
        self._loaders = LoaderThreads()
        self._alarm = Timer(self._turn)
        self.counters = CacheCounters(measures=measures)
        self._closed = False

    def entry_states(self) -> list[EntryState]:
        """The state of every entry, the one used last at the end. Before them what has just failed to be loaded, and is no entry now."""
        with self._lock:
            now_s = self._clock()
            held = {key_of(entry.parameters): entry.describe(now_s, self._due_s(entry)) for entry in self._shelf}
            return [failed_state(dict(key), each, now_s) for key, each in self._failed_loads if key not in held] + list(held.values())

    def lookup(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending:
        """The model for these parameters, in any order. Never waits for a load.

        Args:
            parameters: of the request.
            wake: called once for a returned `Pending`, from a thread of the cache. It must return at once and not raise.

        Raises:
            Misfit: the spec does not admit the parameters.
            LoadFailed: a load of them failed a moment ago, and it is too early to try again.
            Full: too many others are waiting to be loaded.
            Unavailable: the cache is closed, its store could not be asked a moment ago, or the load takes longer than a request may wait.
        """
        key = self._names.known(key_of(parameters))
        if key is not None:
            with self._lock:
                found = self._known(key, wake)
            if found is not None:
                return found
        validated = self._names.validated(parameters)
        with self._lock:
            # Another thread may have begun the same load while the spec was applied.
            return self._known(key_of(validated), wake) or self._begin(Entry(dict(parameters), validated, self._clock()), wake)

    def check_parameters(self, parameters: Mapping[str, str]) -> None:
        """Whether there may be an entry for these parameters; the store is not asked.

        Raises:
            Misfit: the spec does not admit them.
            LoadFailed: the spec raised what it should not.
        """
        if self._names.known(key_of(parameters)) is None:
            self._names.validated(parameters)

    def prefetch(self, names: Sequence[str]) -> int:
        """Begins to load what the client lists, newest first and up to the size of the cache. Reads the store, so it may take a while.

        Args:
            names: the parameters of the endpoint's path. What is listed with others could not be asked for, and is left out.

        Returns:
            How many loads were begun.
        """
        listed = (dict(found) for found in self._config.client.list() if set(found) == set(names))
        begun = 0
        for parameters in islice(listed, self._config.max_size):
            try:
                found = self.lookup(parameters, _nothing)
            except PexdockError as exc:
                log.warning("not loaded ahead: %s: %s", parameters, exc)
                continue
            if isinstance(found, Pending):
                found.cancel()
                begun += 1
            else:
                found.release()
        return begun

    def refresh(self, parameters: Mapping[str, str] | None = None) -> int:
        """Begins to refresh one entry, or all. A load that failed a moment ago may be tried again at once, by the next request.

        Args:
            parameters: of the entry, as a request gives them; None for all.

        Returns:
            How many refreshes were begun: none for what is not there, or is being loaded or refreshed already.

        Raises:
            Misfit, LoadFailed: of the spec, as in `lookup`.
        """
        key = None if parameters is None else key_of(self._names.validated(parameters))
        with self._lock:
            self._failed_loads.forget(key)
            return sum(self._refresh(entry) for entry in self._shelf if key is None or key_of(entry.parameters) == key)

    def close(self, timeout_s: float = 5.0) -> bool:
        """No more lookups. Loads that have not begun end with Unavailable; those that have are waited for; models are unloaded. Idempotent.

        Returns:
            Whether all loader threads ended in time. One that did not is a daemon thread and ends with the process.
        """
        self._alarm.close()
        with self._lock:
            self._closed = True
            self._loaders.forget()
            waiting = [pending for entry in self._shelf for pending in self._abandon(entry)]
            self._make_room()
        for pending in waiting:
            pending.finish(Unavailable("the worker is stopping"))
        return self._loaders.join(timeout_s)

    def _known(self, key: Key, wake: Callable[[], None]) -> Lease | Pending | None:
        """Of an entry that is there. Under the lock."""
        if self._closed:
            raise Unavailable("the worker is stopping")
        entry = self._shelf.used(key)
        if entry is None:
            failure = self._failed_loads.blocking_error(key, self._clock())
            if failure is not None:
                raise failure.copy_for_caller()
            return None
        if entry.copy is not None:
            self.counters.hits += 1
            return self._lease(entry, entry.copy)
        if self._too_long(entry):
            raise _still_loading()
        return self._wait(entry, wake)

    def _begin(self, entry: Entry, wake: Callable[[], None]) -> Pending:
        """Enters a new entry, and begins its load. Under the lock."""
        if self._loaders.waiting(LoadPriority.LOAD) >= LOADING_MAX:
            raise Full("too many artifacts are waiting to be loaded")
        self._shelf.add(entry)
        pending = self._wait(entry, wake)
        self._loaders.put(LoadPriority.LOAD, functools.partial(self._load, entry))
        if self._config.load_timeout_s is not None:
            self._alarm.poke()
        return pending

    def _wait(self, entry: Entry, wake: Callable[[], None]) -> Pending:
        pending = Pending(entry, self._take, self._leave, wake)
        entry.waiters.append(pending)
        entry.waits += 1
        return pending

    def _take(self, entry: Entry) -> Lease:
        with self._lock:
            assert entry.copy is not None
            entry.waits -= 1
            return self._lease(entry, entry.copy)

    def _leave(self, entry: Entry) -> None:
        with self._lock:
            entry.waits -= 1
            self._make_room()

    def _lease(self, entry: Entry, copy: LoadedCopy) -> Lease:
        entry.used_at_s = self._clock()
        copy.pins += 1
        return Lease(entry, copy, self._unpin)

    def _unpin(self, entry: Entry, copy: LoadedCopy) -> None:
        with self._lock:
            entry.used_at_s = self._clock()
            copy.pins -= 1
            if copy.retired and copy.pins == 0:
                self._dispose(copy)
            self._make_room()

    def _refresh(self, entry: Entry) -> bool:
        """Under the lock."""
        if entry.copy is None or entry.queued or self._closed:
            return False
        entry.queued = True
        self._loaders.put(LoadPriority.REFRESH, functools.partial(self._load, entry))
        return True

    def _load(self, entry: Entry) -> None:
        """A first load or a refresh. Runs on a loader thread."""
        with self._lock:
            if not self._shelf.holds(entry):
                return  # evicted, or abandoned, while it waited
            entry.begun = True
            known = None if entry.copy is None else entry.copy.artifact
        began_s = self._clock()
        try:
            copy = load_copy(self._config, entry.asked, entry.parameters, known)
        except PexdockError as exc:
            self._failed(entry, exc)
        except BaseException as exc:  # SystemExit too: else the waiters would wait for ever. The next load is not concerned.
            log.warning("load_model failed for %s", entry.parameters, exc_info=exc)
            failed = LoadFailed(f"load_model raised {type(exc).__name__} for {_shown(entry.parameters)}")
            failed.__cause__ = exc
            self._failed(entry, failed)
        else:
            self._loaded(entry, copy, self._clock() - began_s)

    def _loaded(self, entry: Entry, copy: LoadedCopy | None, took_s: float) -> None:
        """Ends a load; without a copy the artifact is the one that is loaded already."""
        with self._lock:
            self._failed_loads.record_success(key_of(entry.parameters))
            entry.since_s, entry.in_a_row, entry.last_error = self._clock(), 0, None
            if copy is None:
                self.counters.unchanged += 1
            else:
                self.counters.loaded(took_s)
                entry.loads += 1
                self._swap(entry, copy)
            waiters = self._end(entry, self._schedule.after_success())
        for pending in waiters:
            pending.finish()

    def _swap(self, entry: Entry, copy: LoadedCopy) -> None:
        before, entry.copy = entry.copy, copy
        self._retire(before)
        if before is None:
            entry.used_at_s = self._clock()
        elif not self._shelf.holds(entry):  # it was evicted while it was refreshed
            self._retire(copy)

    def _failed(self, entry: Entry, error: PexdockError) -> None:
        key, reason = key_of(entry.parameters), reason_of(error)
        with self._lock:
            self.counters.failed()
            entry.failures += 1
            entry.in_a_row += 1
            entry.last_error = reason
            if entry.copy is None:
                entry.error = error
                self._shelf.remove(entry)
                if isinstance(error, LoadFailed | Unavailable):  # what is missing costs little to look for, and may come
                    self._failed_loads.record_failure(key, error.copy_for_caller(), self._clock(), reason)
            waiters = self._end(entry, self._schedule.after_failure(entry.in_a_row))
        for pending in waiters:
            pending.finish()

    def _end(self, entry: Entry, due: DueRefresh | None) -> list[Pending]:
        """Of a load, well or not. Under the lock."""
        entry.queued = entry.begun = False
        entry.due = due
        waiters = entry.take_waiters()
        self._make_room()
        if due is not None or self._config.ttl is not None:
            self._alarm.poke()
        return waiters

    def _make_room(self) -> None:
        """Takes out what is over the bounds; at the end, all. Under the lock."""
        for entry in self._shelf.idle() if self._closed else self._shelf.surplus():
            self._evict(entry)

    def _evict(self, entry: Entry) -> None:
        if not self._closed:
            self.counters.evicted()
        self._shelf.remove(entry)
        self._retire(entry.copy)

    def _retire(self, copy: LoadedCopy | None) -> None:
        if copy is not None and not copy.retired:
            copy.retired = True
            if copy.pins == 0:
                self._dispose(copy)

    def _dispose(self, copy: LoadedCopy) -> None:
        self._loaders.put(LoadPriority.DISPOSE, functools.partial(dispose, copy, self._config.unload))

    def _abandon(self, entry: Entry) -> list[Pending]:
        """Takes out an entry that still waits for a loader, which will not come to it. Under the lock."""
        if entry.begun or entry.copy is not None:
            return []
        self._shelf.remove(entry)
        return entry.take_waiters()

    def _too_long(self, entry: Entry) -> bool:
        timeout_s = self._config.load_timeout_s
        return timeout_s is not None and self._clock() - entry.since_s >= timeout_s

    def _due_s(self, entry: Entry) -> float | None:
        return None if entry.due is None else self._schedule.remaining_s(entry.due)

    def _turn(self) -> float | None:
        """Does what is due, and says in how many seconds the next thing is. Runs on the alarm's thread."""
        with self._lock:
            overdue = [pending for entry in self._shelf if entry.copy is None and self._too_long(entry) for pending in entry.take_waiters()]
            if self._config.ttl is not None:
                for entry in self._shelf.unused_since(self._clock() - self._config.ttl.total_seconds()):
                    self._evict(entry)
            planned = [self._next_s(entry) for entry in self._shelf]
        for pending in overdue:
            pending.finish(_still_loading())
        return min((each for each in planned if each is not None), default=None)

    def _next_s(self, entry: Entry) -> float | None:
        """Begins the entry's refresh if it is due. Seconds until something is due for it."""
        if entry.copy is None:
            timeout_s = self._config.load_timeout_s
            return entry.since_s + timeout_s - self._clock() if timeout_s is not None and entry.waiters else None
        planned = []
        if self._config.ttl is not None:
            unused_s = 0.0 if not entry.idle else self._clock() - entry.used_at_s
            planned.append(self._config.ttl.total_seconds() - unused_s)
        if entry.due is not None and not entry.queued:
            entry.due = self._schedule.corrected(entry.due)
            remaining_s = self._schedule.remaining_s(entry.due)
            if remaining_s > 0 or not self._refresh(entry):
                planned.append(min(remaining_s, WALL_CHECK_S) if entry.due.by_wall else remaining_s)
        return min(planned, default=None)


def dispose(copy: LoadedCopy, unload: Callable[[object], object] | None) -> None:
    """Unloads a model that nobody uses any more, and lets go of it and of its artifact. Runs on a loader thread."""
    try:
        if unload is not None:
            unload(copy.model)
    except BaseException:  # the author's code; the cache has let go of the model all the same
        log.exception("unload raised")
    copy.model = None
    if copy.artifact is not None:
        copy.artifact.release()


def _still_loading() -> Unavailable:
    return Unavailable("the model is still being loaded; ask again soon")


def _shown(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "no parameters"


def _nothing() -> None:
    """Nobody waits."""
