"""Finds workers that hang: no client waits any more for the work that they compute, and they do not reply or do not end cancelled work."""

from __future__ import annotations

import asyncio
import logging

from runtime.front.workers.events import WorkerEvents, WorkItem
from runtime.front.workers.link import WorkerLink
from runtime.front.workers.pool import WorkerPool

log = logging.getLogger(__name__)

HANGS_AFTER_S = 1.0
"""Grace period in seconds after the deadline of the work that a worker computes. After it, the worker counts as hung and is replaced."""


class HangDetector:
    """Looks for workers that hang, but only after a deadline has passed.

    There is no heartbeat, because a worker computes on the thread that would send it.

    Args:
        pool: The links to all workers of a release.
        events: Handles workers that hang.
        timeout_s: Upper limit of a request's time in seconds. A worker that is silent for less does not count as hung, since clients and
            authors may set time limits that are shorter than the time of a batch.
    """

    def __init__(self, pool: WorkerPool, events: WorkerEvents, timeout_s: float) -> None:
        self._pool = pool
        self._events = events
        self._timeout_s = timeout_s
        self._watched: set[WorkerLink] = set()
        self._notified: set[WorkerLink] = set()

    def watch(self, item: WorkItem) -> None:
        """Schedules a check of the worker that has an item for which nobody waits any more, and notifies it of such batches."""
        loop = asyncio.get_running_loop()
        for link in self._pool.every_link():
            if (link not in self._watched or link not in self._notified) and link.in_flight.contains_item(item):
                if link not in self._notified:
                    self._notified.add(link)
                    loop.call_later(HANGS_AFTER_S, self._notify, link)
                if link not in self._watched:
                    self._watched.add(link)
                    loop.call_later(HANGS_AFTER_S, self._check, link)

    def _notify(self, link: WorkerLink) -> None:
        self._notified.discard(link)
        cancelled = link.cancel_unwanted()
        if cancelled:
            asyncio.get_running_loop().call_later(self._timeout_s, self._check_cancelled, link, cancelled)

    def _check_cancelled(self, link: WorkerLink, numbers: list[int]) -> None:
        """Replaces a worker that has batches long after their cancellation, even if it replies to others: an async call ignores it."""
        if link.open and any(number in link.in_flight.batches for number in numbers):
            self._report(link, f"a call goes on {self._timeout_s:g} s after its cancellation")

    def _check(self, link: WorkerLink) -> None:
        self._watched.discard(link)
        if not (link.open and link.in_flight.is_hung()):
            return
        left_s = self._timeout_s - link.in_flight.silent_s
        if left_s > 0:
            self._watched.add(link)
            asyncio.get_running_loop().call_later(left_s, self._check, link)
        else:
            self._report(link, f"it has not replied for {link.in_flight.silent_s:g} s")

    def _report(self, link: WorkerLink, reason: str) -> None:
        spec = self._pool.release.spec
        log.warning("a worker of %s %s hangs: %s", spec.model, spec.version, reason)
        self._events.on_unhealthy(link.path, "it did not answer a request in time, nor afterwards")
