"""Synchronizes a mirror repeatedly, less often while it fails. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from base.backoff import Backoff
from runtime.blocking import BlockingThreads
from runtime.supervisor.dist.mirror import DistMirror, summarize_error

log = logging.getLogger(__name__)

_PAUSE_MAX_S = 60.0


class MirrorLoop:
    """Runs the synchronizations of a mirror one after the other.

    Args:
        mirror: The mirror.
        poll_s: Pause after a synchronization in seconds; doubled with each failure, up to a minute.
        on_changed: Called when `reason` has changed.

    Attributes:
        reason: Explanation of what cannot be mirrored at the moment; empty if nothing is wrong.
        first_sync_done: Set once dist/ can be used: with files of an earlier run, or after the first synchronization, even if it failed.
    """

    def __init__(self, mirror: DistMirror, poll_s: float, on_changed: Callable[[], None]) -> None:
        self.reason = ""
        self.first_sync_done = asyncio.Event()
        self._mirror = mirror
        self._backoff = Backoff(poll_s, max(poll_s, _PAUSE_MAX_S))
        self._on_changed = on_changed
        self._threads = BlockingThreads(1)
        self._error_kind = ""

    async def run(self) -> None:
        """Synchronizes until this is cancelled. A running synchronization then safely continues on its thread until the process ends."""
        if not await self._threads.run(lambda: self._mirror.is_empty):
            self.first_sync_done.set()
        failures = 0
        while True:
            try:
                problems = await self._threads.run(self._mirror.sync)
            except Exception as exc:  # noqa: BLE001 - of the network, a disk or a library: it can only try again
                failures += 1
                self._report(summarize_error(exc), type(exc).__name__)
            else:
                failures = 0
                self._report("; ".join(problems), "; ".join(problem.partition(" ")[0] for problem in problems))
            self.first_sync_done.set()
            await asyncio.sleep(self._backoff.delay_s(failures + 1))

    def _report(self, reason: str, kind: str) -> None:
        """Shows the reason in the state. Logs it only when the kind of error changes, since errors contain times and counts."""
        if kind != self._error_kind:
            self._error_kind = kind
            log.warning("cannot mirror the object store: %s", reason) if reason else log.info("the object store is mirrored again")
        if reason != self.reason:
            self.reason = reason
            self._on_changed()
