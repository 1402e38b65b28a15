"""Begins jobs in their order while there is room for them, and stores how each attempt ends."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable

from msgspec.structs import replace

from base.errors import PexdockError
from base.ipc.front_door_control import JobDemand, JobRunnerConfig, WorkerUnhealthy
from base.jobs.attempt import Progress
from runtime.job_runner.attempt import AttemptCalls, JobRun, problem_of
from runtime.job_runner.releases import JobReleases, NotRunnable
from runtime.job_runner.stored_jobs import RETRY_S, StoredJobs
from runtime.jobs.job import Job, JobEvent, JobState
from runtime.jobs.queue import FairQueue


class JobScheduler:
    """Runs jobs, as many at a time as there may be job workers.

    Args:
        stored: The jobs.
        releases: The releases on which they run.
        config: The settings of jobs.
        on_progress: Called with a job as it began, and each report of its handler.
        send: Sends demands and reports on workers to the supervisor.

    Attributes:
        failed: Set to an error that this process does not survive, such as a store that has become useless.
    """

    def __init__(
        self,
        stored: StoredJobs,
        releases: JobReleases,
        config: JobRunnerConfig,
        *,
        on_progress: Callable[[Job, Progress], None],
        send: Callable[[JobDemand | WorkerUnhealthy], None],
    ) -> None:
        self._stored = stored
        self._releases = releases
        self._config = config
        self._calls = AttemptCalls(self._begin, on_progress, send)
        self._send = send
        self._queue = FairQueue()
        self._waiting: dict[int, Job] = {}  # those in the queue, and those that will be in it again in a moment
        self._running: dict[int, JobRun | None] = {}  # with those that wait for a worker; None until they have a release
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def __contains__(self, number: int) -> bool:
        return number in self._waiting or number in self._running

    def enqueue(self, job: Job) -> None:
        """Queues a job, which begins at once if it can."""
        self._waiting[job.number] = job
        self._queue.add(job.number, job.submission.client, job.submission.model, job.submission.priority)
        self.begin_jobs()

    def forget(self, number: int) -> None:
        """Removes a job from the queue, if it is there, or ends its wait for a worker."""
        self._waiting.pop(number, None)
        self._queue.remove(number)
        self.cancel(number)

    def cancel(self, number: int) -> None:
        """Cancels a job that runs."""
        run = self._running.get(number)
        if run is not None:
            run.end(JobEvent.CANCEL)

    def jobs_before(self, number: int) -> int:
        """Returns the number of jobs that begin before one; 0 if it is not in the queue."""
        return self._queue.jobs_before(number) if number in self._queue else 0

    def reconfigure(self, config: JobRunnerConfig) -> None:
        """Applies changed settings to jobs that begin from now on."""
        self._config = config
        self.begin_jobs()

    def begin_jobs(self) -> None:
        """Begins jobs while there is room for them. Called after every change that may allow it."""
        while not self._is_draining and len(self._running) < self._config.workers:
            number = self._queue.take(self._releases.is_runnable)
            if number is None:
                return
            self._running[number] = None
            task = asyncio.get_running_loop().create_task(self._run(self._waiting.pop(number)))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)

    def begin_drain(self) -> None:
        """Begins no more jobs, and gives back those that still run after a while. Idempotent."""
        if not self._is_draining:
            self._is_draining = True
            self._give_back(lambda run: not run.has_begun)
            asyncio.get_running_loop().call_later(self._config.drain_s, self._give_back, lambda _: True)

    async def wait_drained(self) -> None:
        """Waits until no job runs any more."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _run(self, job: Job) -> None:
        try:
            await self._attempt(job)
        finally:
            del self._running[job.number]
            self._releases.release_worker(job.number)
            self.begin_jobs()
            # After the next job has told what it needs: else its release might be stopped because nobody wants it for a moment.
            asyncio.get_running_loop().call_soon(self._demand_workers)

    async def _attempt(self, job: Job) -> None:
        """Begins a job, and stores how the attempt has ended."""
        try:
            release_id = self._releases.choose(job)
        except NotRunnable:
            self._enqueue_later(job)
            return
        except PexdockError as exc:
            await self._stored.step(job.number, JobEvent.FAIL, error=problem_of(exc, job))
            return
        chosen = replace(job, release_id=release_id)
        run = JobRun(chosen, self._stored.files, self._releases, self._config, self._calls)
        self._running[job.number] = run
        if self._is_draining:
            run.end(JobEvent.GIVE_BACK)
        self._demand_workers()
        end = await run.run()
        if end.event is JobEvent.INTERRUPT and not run.has_begun:
            self._enqueue_later(job)
            return
        ended = await self._stored.step(job.number, end.event, error=end.error, result=end.result)
        await run.wait_left()
        if ended is not None and ended.state is JobState.QUEUED:
            self._enqueue_later(ended)

    async def _begin(self, job: Job) -> Job | None:
        """Stores that a job begins, and returns it as it is then; None if it has ended meanwhile."""
        return await self._stored.step(job.number, JobEvent.START, release_id=job.release_id)

    def _enqueue_later(self, job: Job) -> None:
        """Queues a job again after a moment, so that one that fails at once does not do so in a loop."""

        def enqueue() -> None:
            if job.number in self._waiting:
                self.enqueue(job)

        self._waiting[job.number] = job
        asyncio.get_running_loop().call_later(RETRY_S, enqueue)

    def _give_back(self, is_meant: Callable[[JobRun], bool]) -> None:
        for run in self._running.values():
            if run is not None and is_meant(run):
                run.end(JobEvent.GIVE_BACK)

    def _demand_workers(self) -> None:
        jobs = [run.job for run in self._running.values() if run is not None]
        wanted = [job.release_id for job in jobs]
        grouped = itertools.cycle([job.release_id for job in jobs if self._releases.is_grouped(job)])
        spare = 0 if self._waiting else self._config.workers - len(self._running)
        wanted += itertools.islice(grouped, spare)  # of no use to others, which one worker computes
        self._send(JobDemand(dict(Counter(wanted)), self._releases.busy_sockets()))

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self.failed.done():
            self.failed.set_exception(error)
