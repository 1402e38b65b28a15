"""The job runner: accepts jobs, has them run, and answers what clients ask about them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing, suppress
from functools import partial
from pathlib import Path

import msgspec
from msgspec.structs import replace

from base.errors import Full, PexdockError, Unavailable
from base.ipc.front_door_control import JobDemand, JobRunnerConfig, WorkerUnhealthy
from base.jobs.attempt import Progress
from runtime.job_runner.events import JobEvents
from runtime.job_runner.releases import JobReleases
from runtime.job_runner.scheduler import JobScheduler
from runtime.job_runner.stored_jobs import RETRY_S, StoredJobs
from runtime.job_runner.webhooks.sender import WebhookSender
from runtime.jobs.files import JobFiles
from runtime.jobs.job import Job, JobEvent, JobState, Submission
from runtime.jobs.store.interface import ImpossibleStep, JobLimits, JobStore
from runtime.jobs.webhook_hosts import WebhookConfig

log = logging.getLogger(__name__)


class JobRunner:
    """Owns all jobs of one supervisor. All methods are called on its event loop.

    Args:
        store: The jobs.
        files: Their files.
        releases: The releases on which they run.
        config: The settings of jobs.
        send: Sends demands and reports on workers to the supervisor.

    Attributes:
        scheduler: Runs the jobs.
    """

    def __init__(
        self,
        store: JobStore,
        files: JobFiles,
        releases: JobReleases,
        config: JobRunnerConfig,
        send: Callable[[JobDemand | WorkerUnhealthy], None],
    ) -> None:
        self._stored = StoredJobs(store, files, self._publish)
        self._releases = releases
        self.scheduler = JobScheduler(self._stored, releases, config, on_progress=self._on_progress, send=send)
        self._events = JobEvents()
        self._webhooks = WebhookSender(msgspec.convert(config.webhooks, WebhookConfig), self._on_end_told)
        self._tidy_s = msgspec.convert(config.limits, JobLimits).tidy_s
        self._is_recovered = False
        self._tidying: asyncio.Task[None] | None = None
        self._is_done = asyncio.Event()  # another job is done, so there may be too many results

    async def start(self) -> None:
        """Queues the jobs that wait since before, and begins to remove what is too old. While the disk is full, that comes later.

        Raises:
            JobStoreUnusable: The store cannot be used.
        """
        await self._recover()
        self._tidying = asyncio.get_running_loop().create_task(self._tidy())

    async def _recover(self) -> None:
        """Ends what was interrupted, and queues the jobs that wait, if the disk lets it."""
        store = self._stored.store
        try:
            await self._stored.run(store.recover)
            waiting = await self._stored.run(store.waiting)
        except (Full, Unavailable):
            return
        self._is_recovered = True
        for job in waiting:
            self.scheduler.enqueue(job)

    async def drain(self) -> None:
        """Waits until no job runs any more, and closes the store."""
        self.scheduler.begin_drain()
        await self.scheduler.wait_drained()
        if self._tidying is not None:
            self._tidying.cancel()
        await self._webhooks.close()
        await self._stored.run(self._stored.store.close)

    # ---- requests of clients

    async def submit(self, submission: Submission) -> tuple[Job, bool]:
        """Stores a job, and returns it once that survives a power cut.

        Returns:
            The job, and whether it is new: its id may be that of a job with the same digest, which is then returned as it is.

        Raises:
            Conflict: The client has another job with this id.
            Full: The disk or the queue has no room. Nothing was stored, and the caller removes the body.
            Misfit: Its webhook may not be called. As before.
        """
        if submission.webhook:
            self._webhooks.check_url(submission.webhook)
        if not self._is_recovered:
            raise Full("the disk for jobs is full; try again later", retry_after_s=60)
        submission = replace(submission, release_id=self._releases.named_by(submission))
        job, is_new = await self._stored.run(partial(self._stored.store.add, submission))
        if job.state is JobState.QUEUED and job.number not in self.scheduler:
            self.scheduler.enqueue(job)
        return job, is_new

    async def get(self, client: str, job_id: str) -> Job:
        """Returns a job of a client as it is now. If it is done, and somebody has removed its result, it expires.

        Raises:
            NotFound: The client has no such job.
        """
        store = self._stored.store
        job = await self._stored.run(partial(store.get, client, job_id))
        if job.state is JobState.DONE and not await self._stored.run(self._stored.files.result(job.number).exists):
            with suppress(ImpossibleStep):  # it has expired meanwhile
                self._publish(await self._stored.run(partial(store.step, job.number, JobEvent.EXPIRE)))
            job = await self._stored.run(partial(store.get, client, job_id))
        return job

    async def list_jobs(
        self,
        client: str | None,
        *,
        job_id: str = "",
        states: Collection[JobState] = (),
        model: str = "",
        before: int | None = None,
        count_max: int = 100,
    ) -> Sequence[Job]:
        """Returns jobs, the newest first.

        Args:
            client: The client that they belong to; None for all jobs.
            job_id: Id to return; empty for all.
            states: States to return; empty for all.
            model: Model to return; empty for all.
            before: Only jobs with lower numbers, which continues a list.
            count_max: Limit of their number.
        """
        find = partial(self._stored.store.list_jobs, client=client, job_id=job_id, states=states, model=model)
        return await self._stored.run(partial(find, before=before, limit=count_max))

    async def cancel(self, client: str, job_id: str) -> Job:
        """Cancels a job, unless it has ended, and returns it. One that runs ends once its handler has returned or its worker is gone.

        Raises:
            NotFound: The client has no such job.
        """
        job = await self._stored.run(partial(self._stored.store.request_cancel, client, job_id))
        if job.state is JobState.RUNNING:
            self._publish(job)
            self.scheduler.cancel(job.number)
        elif job.state is JobState.CANCELLED:
            self.scheduler.forget(job.number)
            self._publish(job)
        return job

    async def follow(self, client: str, job_id: str, after: int) -> AsyncGenerator[tuple[int, Job], None]:
        """Yields the job after each change whose number is higher than `after`, up to its end; skips those that are forgotten.

        Raises:
            NotFound: The client has no such job.
        """
        job = await self.get(client, job_id)
        async with aclosing(self._events.follow(job, after)) as changes:
            async for change in changes:
                yield change

    def jobs_before(self, job: Job) -> int:
        """Returns the number of jobs that begin before a job that is queued."""
        return self.scheduler.jobs_before(job.number)

    def result_path(self, job: Job) -> Path:
        """Returns the file with the result of a job that is done."""
        return self._stored.files.result(job.number)

    # ---- changes

    def _on_progress(self, job: Job, progress: Progress) -> None:
        self._stored.store.set_progress(job.number, progress.fraction, progress.message)
        self._publish(replace(job, fraction=progress.fraction, message=progress.message))

    def _publish(self, job: Job) -> None:
        """Tells those who follow a job of its change."""
        self._events.publish(job)
        self._webhooks.notify(job)
        if job.state is JobState.DONE:
            self._is_done.set()

    async def _on_end_told(self, number: int) -> None:
        try:
            await self._stored.run(partial(self._stored.store.set_webhook_sent, number))
        except PexdockError as exc:
            log.warning("job %d: its webhook will be told again: %s", number, exc)

    async def _tidy(self) -> None:
        while not self._is_recovered:
            await asyncio.sleep(RETRY_S)
            await self._recover()
        while True:
            try:
                for job in await self._stored.run(self._stored.store.tidy):
                    self.scheduler.forget(job.number)
                    self._publish(job)
                self._webhooks.resume(await self._stored.run(self._stored.store.unsent_webhooks))
            except PexdockError as exc:
                log.warning("old jobs cannot be removed now: %s", exc)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tidy_s):
                    await self._is_done.wait()
            self._is_done.clear()
