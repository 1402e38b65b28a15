"""The cache of one endpoint in one worker: models by parameters, loaded once however many ask, the least used dropped.

The serving thread never waits here. `lookup` returns a `Lease` on a model that is there, or a `Pending` for one that is being loaded on a
thread of the cache; its `wake` is called, on that thread, when the load has ended either way:

    found = cache.lookup(parameters, wake)          # raises Misfit, Full, LoadFailed (backing off), Unavailable (closed)
    if isinstance(found, Pending): park the batch; after wake, where found.done:
        found = found.lease()                       # raises what the load raised: NotFound, Misfit, LoadFailed
    with found as model: handler(model, frame)

A lease and a pending each pin their entry: it is not evicted until the lease is released or the pending cancelled. So a model that was
loaded for a parked batch is still there when the batch comes back, whatever else was loaded meanwhile.

Two sets of parameters that lead to one artifact (a fallback) are two entries, and it is loaded twice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from base.artifacts.back_off import BackOff
from base.artifacts.config import CacheConfig
from base.artifacts.entry import Entry, Lease, Pending, State, again
from base.errors import Full, LoadFailed, PexdockError, Unavailable

__all__ = ["Cache", "Counters", "Lease", "Pending", "State"]

log = logging.getLogger(__name__)

Key = frozenset[tuple[str, str]]

LOADERS = 2
"""Threads that load at the same time. Two, so that one slow artifact does not hold up all others; more would only share the same disk."""
LOADING_MAX = 1_000
"""Artifacts that may wait for a loader; a flood of made-up parameters is refused rather than queued."""


@dataclass
class Counters:
    """What a cache did since it was made.

    Attributes:
        hits: lookups that found a model ready.
        loads: loads that ended well.
        failures: loads that did not.
        evictions: models dropped to make room.
    """

    hits: int = 0
    loads: int = 0
    failures: int = 0
    evictions: int = 0


class Cache:
    """See the module. All methods may be called from any thread.

    Args:
        config: client, loader, spec and size.
        clock: seconds that only grow.

    Attributes:
        counters: to be read only.
    """

    def __init__(self, config: CacheConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self._config = config
        self._clock = clock
        self._lock = threading.Lock()  # guards all below; nothing of an author's is called under it
        self._entries: OrderedDict[Key, Entry] = OrderedDict()  # the one used last is last
        self._back_off = BackOff()
        self._queue: deque[Entry] = deque()  # at most LOADING_MAX
        self._threads: set[threading.Thread] = set()
        self.counters = Counters()
        self._closed = False

    def states(self) -> list[tuple[dict[str, str], State]]:
        """Parameters and state of every entry, the one used last at the end."""
        with self._lock:
            return [(dict(entry.parameters), entry.state) for entry in self._entries.values()]

    def lookup(self, parameters: Mapping[str, str], wake: Callable[[], None]) -> Lease | Pending:
        """The model for these parameters, in any order. Never waits for a load.

        Args:
            parameters: of the request.
            wake: called once for a returned `Pending`, from a loader thread. It must return at once and not raise.

        Raises:
            Misfit: the spec does not admit the parameters.
            LoadFailed: a load of them failed a moment ago, and it is too early to try again.
            Full: too many others are waiting to be loaded.
            Unavailable: the cache is closed.
        """
        key = frozenset(parameters.items())
        with self._lock:
            found = self._known(key, wake)
        if found is not None:
            return found
        self._check(parameters)
        with self._lock:
            # Another thread may have begun the same load while the spec was applied.
            return self._known(key, wake) or self._begin(key, parameters, wake)

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

    def close(self, timeout_s: float = 5.0) -> bool:
        """No more lookups. Loads that have not begun end with Unavailable; those that have are waited for. Idempotent.

        Returns:
            Whether all loader threads ended in time. One that did not is a daemon thread and ends with the process.
        """
        with self._lock:
            self._closed = True
            dropped, threads = list(self._queue), list(self._threads)
            self._queue.clear()
        for entry in dropped:
            self._finish(entry, None, Unavailable("the worker is stopping"))
        deadline = time.monotonic() + timeout_s
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _known(self, key: Key, wake: Callable[[], None]) -> Lease | Pending | None:
        """Of an entry that is there. Under the lock."""
        if self._closed:
            raise Unavailable("the worker is stopping")
        entry = self._entries.get(key)
        if entry is None:
            self._refuse_early_retry(key)
            return None
        self._entries.move_to_end(key)
        if entry.state is State.FRESH:
            self.counters.hits += 1
            entry.pins += 1
            return Lease(entry, self._unpin)
        return self._wait(entry, wake)

    def _begin(self, key: Key, parameters: Mapping[str, str], wake: Callable[[], None]) -> Pending:
        """A new entry, and its load. Under the lock."""
        if len(self._queue) >= LOADING_MAX:
            raise Full("too many artifacts are waiting to be loaded")
        entry = self._entries[key] = Entry(dict(parameters))
        pending = self._wait(entry, wake)
        self._queue.append(entry)
        if len(self._threads) < LOADERS:
            thread = threading.Thread(target=self._run, name="loader", daemon=True)
            self._threads.add(thread)
            thread.start()
        return pending

    def _wait(self, entry: Entry, wake: Callable[[], None]) -> Pending:
        pending = Pending(entry, self._unpin, wake)
        entry.waiters.append(pending)
        entry.pins += 1
        return pending

    def _refuse_early_retry(self, key: Key) -> None:
        failure = self._back_off.barring(key, self._clock())
        if failure is not None:
            raise again(failure)

    def _check(self, parameters: Mapping[str, str]) -> None:
        try:
            self._config.check_parameters(parameters)
        except PexdockError:
            raise
        except Exception as exc:  # a validator is the author's code and may raise anything; the serving thread goes on
            log.exception("the spec of an endpoint raised")
            raise LoadFailed(f"the spec of the parameters raised {type(exc).__name__}") from exc

    def _run(self) -> None:
        """Runs on a loader thread, which ends when there is nothing to load."""
        while True:
            with self._lock:
                if not self._queue:
                    self._threads.discard(threading.current_thread())
                    return
                entry = self._queue.popleft()
            self._load(entry)

    def _load(self, entry: Entry) -> None:
        try:
            artifact = self._config.client.locate(entry.parameters)
            model = self._config.load_model(str(artifact.location))
        except PexdockError as exc:
            self._finish(entry, None, exc)
        except BaseException as exc:  # SystemExit too: else the waiters would wait for ever. The next load is not concerned.
            log.warning("load_model failed for %s", entry.parameters, exc_info=exc)
            failed = LoadFailed(f"load_model raised {type(exc).__name__} for {_shown(entry.parameters)}")
            failed.__cause__ = exc
            self._finish(entry, None, failed)
        else:
            self._finish(entry, model, None)

    def _finish(self, entry: Entry, model: Any, error: PexdockError | None) -> None:
        key = frozenset(entry.parameters.items())
        with self._lock:
            entry.model, entry.error, entry.state = model, error, State.FRESH
            if error is None:
                self._back_off.succeeded(key)
                self.counters.loads += 1
            else:
                del self._entries[key]
                self.counters.failures += 1
                if isinstance(error, LoadFailed):  # to look for what is not there costs little, and may succeed a moment later
                    self._back_off.failed(key, again(error), self._clock())
            waiters, entry.waiters = entry.waiters, []
            dropped = self._surplus()
        for pending in waiters:
            pending.finish()
        dropped.clear()  # outside the lock: a model's own end may take long

    def _unpin(self, entry: Entry) -> None:
        with self._lock:
            entry.pins -= 1
            dropped = self._surplus() if entry.pins == 0 else []
        dropped.clear()

    def _surplus(self) -> list[Any]:
        """Takes out what is over the size and not pinned, longest unused first. Under the lock; the models are let go of outside."""
        if len(self._entries) <= self._config.max_size:
            return []
        fresh = [(key, entry) for key, entry in self._entries.items() if entry.state is State.FRESH]
        dropped: list[Any] = []
        for key, entry in fresh:
            if len(fresh) - len(dropped) <= self._config.max_size:
                break
            if entry.pins == 0:
                dropped.append(entry.model)
                del self._entries[key]
        self.counters.evictions += len(dropped)
        return dropped


def _shown(parameters: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in parameters.items()) or "no parameters"


def _nothing() -> None:
    """Nobody waits."""
