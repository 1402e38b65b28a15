"""Removes files from the cache that no release needs any more."""

from __future__ import annotations

import asyncio
import logging

from runtime.blocking import BlockingThreads
from runtime.pex.cache.store import PexCache
from runtime.supervisor.releases.release_set import ReleaseSet

log = logging.getLogger(__name__)


class CacheSweeper:
    """Sweeps the cache once after the start, and again whenever a release in it is no longer needed. One sweep runs at a time.

    Args:
        store: The cache.
        threads: Threads for blocking work.
        max_bytes: Size up to which unused unpacked bases are kept, together with those in use.
        releases: All releases.
    """

    def __init__(self, store: PexCache, threads: BlockingThreads, max_bytes: int, releases: ReleaseSet) -> None:
        self._store = store
        self._threads = threads
        self.max_bytes = max_bytes
        self._releases = releases
        self._task: asyncio.Task[None] | None = None
        self._maybe_cached: set[str] | None = None  # digests that may be in the cache; None before the first sweep

    def sweep_if_needed(self) -> None:
        """Starts a sweep if nothing is being copied into the cache and something in it may be removed. First called after the start."""
        needed = self._releases.digests
        is_idle = self._task is None or self._task.done()
        if is_idle and self._releases.is_cache_stable and (self._maybe_cached is None or self._maybe_cached - needed):
            self._maybe_cached = needed  # it grows while the sweep runs, so that the sweep keeps new files
            self._task = asyncio.get_running_loop().create_task(self._threads.run(lambda: self._store.evict(needed, self.max_bytes)))
            self._task.add_done_callback(self._on_swept)
        elif self._maybe_cached is not None:
            self._maybe_cached |= needed

    def _on_swept(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("cannot clean the cache: %s: %s", type(error).__name__, error)
        self.sweep_if_needed()
