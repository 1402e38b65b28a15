"""Has a mirror take its turns, less often while they fail. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from runtime.blocking import BlockingThreads
from runtime.supervisor.dist.mirror import DistMirror, summarize_error
from base.backoff import Backoff

log = logging.getLogger(__name__)

_PAUSE_MAX_S = 60.0


class MirrorLoop:
    """Turns of a mirror, one after the other.

    Args:
        mirror: whose turns they are.
        poll_s: from the end of a turn to the next one; twice as long with each that fails, up to a minute.
        changed: called when `reason` has changed.

    Attributes:
        reason: what cannot be had at the moment, and why; empty where all is well.
        begun: set once there is something to begin with: what an earlier run left, or what the first turn brought, if only an error.
    """

    def __init__(self, mirror: DistMirror, poll_s: float, changed: Callable[[], None]) -> None:
        self.reason = ""
        self.first_sync_done = asyncio.Event()
        self._mirror = mirror
        self._backoff = Backoff(poll_s, max(poll_s, _PAUSE_MAX_S))
        self._changed = changed
        self._threads = BlockingThreads(1)
        self._kind = ""

    async def run(self) -> None:
        """Until it is cancelled. A turn that is under way then goes on until the process ends, which it bears anywhere."""
        if not self._mirror.is_empty:
            self.first_sync_done.set()
        failures = 0
        while True:
            try:
                troubles = await self._threads.run(self._mirror.sync)
            except Exception as exc:  # noqa: BLE001 - of the network, of a disk, of a library: all it can do is try again
                failures += 1
                self._say(summarize_error(exc), type(exc).__name__)
            else:
                failures = 0
                self._say("; ".join(troubles), "; ".join(trouble.partition(" ")[0] for trouble in troubles))
            self.first_sync_done.set()
            await asyncio.sleep(self._backoff.delay_s(failures + 1))

    def _say(self, reason: str, kind: str) -> None:
        """The state tells the last reason; the log only when there is a new kind of trouble, since errors hold times and counts."""
        if kind != self._kind:
            self._kind = kind
            log.warning("the object store: %s", reason) if reason else log.info("the object store is followed again")
        if reason != self.reason:
            self.reason = reason
            self._changed()
