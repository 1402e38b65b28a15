"""The threads of a cache: loaders that end when there is no work, and a timer that sleeps until work is due."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum

Work = Callable[[], None]
"""A load, a refresh or the unloading of a model. It must not raise."""

LOADERS = 2
"""Number of loader threads. Two, so that one slow artifact does not delay all others; more would only share the same disk."""


class LoadPriority(IntEnum):
    """The order of work: memory is freed before more is allocated, and a request does not wait for a refresh."""

    UNLOAD = 0
    LOAD = 1
    REFRESH = 2


class LoaderThreads:
    """Runs work on daemon threads named "loader". The queue has no bound of its own; callers bound it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[LoadPriority, deque[Work]] = {priority: deque() for priority in LoadPriority}
        self._threads: set[threading.Thread] = set()

    def queued(self, priority: LoadPriority) -> int:
        """Returns the number of work items of this priority that have not begun."""
        return len(self._queues[priority])

    def submit(self, priority: LoadPriority, work: Work) -> None:
        """Queues work, and starts a thread for it unless enough are running."""
        with self._lock:
            self._queues[priority].append(work)
            if len(self._threads) < LOADERS:
                thread = threading.Thread(target=self._run, name="loader", daemon=True)
                self._threads.add(thread)
                thread.start()

    def drop_loads(self) -> None:
        """Drops the loads and refreshes that have not begun."""
        with self._lock:
            self._queues[LoadPriority.LOAD].clear()
            self._queues[LoadPriority.REFRESH].clear()

    def join(self, timeout_s: float) -> bool:
        """Waits until all work is done. Returns True if it was done in time."""
        deadline = time.monotonic() + timeout_s
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _run(self) -> None:
        while True:
            with self._lock:
                queue = next((queue for _, queue in sorted(self._queues.items()) if queue), None)
                if queue is None:
                    self._threads.discard(threading.current_thread())
                    return
                work = queue.popleft()
            work()
            del work  # it may hold the last reference to a model


class Timer:
    """Calls `run_due` on a daemon thread whenever work is due. The thread exists only while work is planned.

    Args:
        run_due: Does the work that is due, and returns the seconds until the next work, or None. It must not raise.
    """

    def __init__(self, run_due: Callable[[], float | None]) -> None:
        self._run_due = run_due
        self._condition = threading.Condition()
        self._poked = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def poke(self) -> None:
        """Recomputes the time of the next work, which may be due earlier than planned."""
        with self._condition:
            if self._closed:
                return
            self._poked = True
            self._condition.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="cache-timer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Stops the timer, and waits for running work. Idempotent."""
        with self._condition:
            self._closed = True
            self._condition.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                self._poked = False
            pause_s = self._run_due()
            with self._condition:
                if not self._poked and not self._closed and pause_s is not None:
                    self._condition.wait(min(max(pause_s, 0.0), threading.TIMEOUT_MAX))
                if self._closed or (pause_s is None and not self._poked):
                    self._thread = None
                    return
