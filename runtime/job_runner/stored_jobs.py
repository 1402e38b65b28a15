"""Calls the store of jobs on a thread, one call at a time, and tells of each change."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from base.errors import Full, Unavailable
from runtime.blocking import BlockingThreads
from runtime.jobs.files import JobFiles
from runtime.jobs.job import Job, JobEvent
from runtime.jobs.store.interface import ImpossibleStep, JobResult, JobStore

log = logging.getLogger(__name__)

T = TypeVar("T")

RETRY_S = 1.0
"""Delay in seconds until something is tried again that failed for a reason that may pass."""


class StoredJobs:
    """The store, for use on the event loop.

    Args:
        store: The store.
        files: Its files.
        on_change: Called with each job after a step.

    Attributes:
        store: As given. Only methods that touch no disk may be called directly.
        files: As given.
    """

    def __init__(self, store: JobStore, files: JobFiles, on_change: Callable[[Job], None]) -> None:
        self.store = store
        self.files = files
        self._on_change = on_change
        self._disk = BlockingThreads(1, f"state_path ({files.folder})")

    async def run(self, call: Callable[[], T]) -> T:
        """Returns what a call of the store returns, or raises its error."""
        return await self._disk.run(call)

    async def step(
        self,
        number: int,
        event: JobEvent,
        *,
        release_id: str = "",
        error: dict[str, object] | None = None,
        result: JobResult | None = None,
    ) -> Job | None:
        """Applies an event to a job, as `JobStore.step`, and repeats that while the disk does not let it.

        Returns:
            The job as it is then; None if the event cannot happen any more.
        """
        step = partial(self.store.step, number, event, release_id=release_id, error=error, result=result)
        while True:
            try:
                job = await self._disk.run(step)
            except ImpossibleStep as exc:
                log.info("job %d: %s", number, exc)
                return None
            except (Full, Unavailable) as exc:
                log.warning("job %d waits for the disk: %s", number, exc)
                await asyncio.sleep(RETRY_S)
            else:
                self._on_change(job)
                return job
