"""Changes of jobs, for those who follow them: the last ones of each job are kept, and nobody who reads slowly delays anybody."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator

from runtime.jobs.job import Job

REPLAY_MAX = 1024
"""Changes of one job that are kept. A follower that is further behind misses the oldest."""

_ENDED_MAX = 16_384
"""Changes of all jobs that have ended, about 10 MB. Beyond, those of the job that ended first are forgotten."""


class _Changes:
    """The last changes of one job.

    Attributes:
        kept: Their numbers and the job after each.
        changed: Set at the next change.
    """

    def __init__(self) -> None:
        self.kept: deque[tuple[int, Job]] = deque(maxlen=REPLAY_MAX)
        self.changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class JobEvents:
    """Numbers the changes of all jobs, and hands them to followers. All methods are called on one event loop.

    Numbers are times in microseconds. So they grow, also over restarts of the process, unless the clock was set back meanwhile; then
    followers get all changes that are kept.
    """

    def __init__(self) -> None:
        self._last = int(time.time() * 1e6)
        self._changes: dict[int, _Changes] = {}
        self._ended: OrderedDict[int, int] = OrderedDict()  # number of a job that has ended, and of its kept changes
        self._ended_count = 0

    def publish(self, job: Job) -> None:
        """Notes a change of a job, and wakes its followers. If the job is as before, does nothing."""
        changes = self._changes.get(job.number) or self._changes.setdefault(job.number, _Changes())
        if changes.kept and changes.kept[-1][1] == job:
            return
        changes.kept.append((self._next_number(), job))
        changes.changed.set_result(None)
        changes.changed = asyncio.get_running_loop().create_future()
        if job.state.is_final:
            self._forget_old(job.number, len(changes.kept))

    async def follow(self, job: Job, after: int) -> AsyncGenerator[tuple[int, Job], None]:
        """Yields each change of a job with its number, up to the end of the job, which may have been before.

        Args:
            job: The job as it is stored; it is yielded at once if no change of it is known.
            after: Number of the last change that the follower knows; 0 for none.
        """
        if after > self._last:
            after = 0
        changes = self._changes.get(job.number)
        if changes is None or not changes.kept:
            if job.state.is_final and job.ended_s is not None and after >= job.ended_s * 1e6:
                return  # the follower knows the end
            yield self._next_number(), job
            if job.state.is_final:
                return
            changes = self._changes.get(job.number) or self._changes.setdefault(job.number, _Changes())
        while True:
            waiting = changes.changed
            for number, changed in list(changes.kept):
                if number > after:
                    after = number
                    yield number, changed
            if changes.kept and changes.kept[-1][1].state.is_final:
                return
            if changes.changed is waiting:
                await asyncio.shield(waiting)

    def _next_number(self) -> int:
        self._last = max(self._last + 1, int(time.time() * 1e6))
        return self._last

    def _forget_old(self, number: int, count: int) -> None:
        """Notes that a job has ended, and forgets those that ended first if they have too many changes."""
        self._ended_count += count - self._ended.pop(number, 0)
        self._ended[number] = count
        while self._ended_count > _ENDED_MAX:
            first, count = self._ended.popitem(last=False)
            self._ended_count -= count
            del self._changes[first]
