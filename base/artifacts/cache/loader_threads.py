"""The threads of a cache: loaders that end when there is nothing to do, and an alarm that sleeps until something is due."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from enum import IntEnum

log = logging.getLogger(__name__)

Work = Callable[[], None]
"""A load, a refresh or the end of a model."""

LOADERS = 2
"""Threads that load at the same time. Two, so that one slow artifact does not hold up all others; more would only share the same disk."""


class LoadPriority(IntEnum):
    """What goes first: memory is given back before more is taken, and a request does not wait for a refresh."""

    DISPOSE = 0
    LOAD = 1
    REFRESH = 2


class LoaderThreads:
    """Runs work on daemon threads named "loader". It must not raise. Whoever puts work bounds how much."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[LoadPriority, deque[Work]] = {rank: deque() for rank in LoadPriority}
        self._threads: set[threading.Thread] = set()

    def waiting(self, rank: LoadPriority) -> int:
        """How much has not begun."""
        return len(self._queues[rank])

    def put(self, rank: LoadPriority, work: Work) -> None:
        """Runs it soon."""
        with self._lock:
            self._queues[rank].append(work)
            if len(self._threads) < LOADERS:
                thread = threading.Thread(target=self._run, name="loader", daemon=True)
                self._threads.add(thread)
                thread.start()

    def forget(self) -> None:
        """Loads and refreshes that have not begun never will."""
        with self._lock:
            self._queues[LoadPriority.LOAD].clear()
            self._queues[LoadPriority.REFRESH].clear()

    def join(self, timeout_s: float) -> bool:
        """Waits until there is nothing to do. Returns whether that was so in time."""
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
            del work  # it may be the last to hold a model


class Timer:
    """Calls `turn` on a daemon thread whenever something is due. There is a thread only while something is planned.

    Args:
        turn: does what is due, and returns the seconds until the next is, or None. It must not raise.
    """

    def __init__(self, turn: Callable[[], float | None]) -> None:
        self._turn = turn
        self._condition = threading.Condition()
        self._poked = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def poke(self) -> None:
        """Something may be due earlier than was known."""
        with self._condition:
            if self._closed:
                return
            self._poked = True
            self._condition.notify()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="alarm", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """No more turns; returns when none is under way. Idempotent."""
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
            pause_s = self._turn()
            with self._condition:
                if not self._poked and not self._closed and pause_s is not None:
                    self._condition.wait(min(max(pause_s, 0.0), threading.TIMEOUT_MAX))
                if self._closed or (pause_s is None and not self._poked):
                    self._thread = None
                    return
