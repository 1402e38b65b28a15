"""Tells webhooks of the changes of jobs: not too often, the last change always, and again if a call fails."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import ssl
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import msgspec

from base.backoff import Backoff
from base.errors import PexdockError
from runtime.blocking import BlockingThreads
from runtime.job_runner.webhooks.call import WebhookCaller, WebhookFailed
from runtime.job_runner.webhooks.signature import BadWebhookSecret, read_secrets, sign
from runtime.jobs.documents import job_document
from runtime.jobs.job import Job
from runtime.jobs.webhook_hosts import WebhookConfig, WebhookHosts

log = logging.getLogger(__name__)

_BACKOFF = Backoff(1.0, 60.0)


class WebhookSender:
    """Calls the webhooks of jobs. All methods are called on one event loop.

    Args:
        config: The settings of webhooks.
        on_end_told: Notes that a webhook knows the end of a job, by its number, or that it was given up.
        tls: Verifies the certificates of hosts; None for what this machine trusts.
        backoff: Delays after calls that failed.
    """

    def __init__(
        self,
        config: WebhookConfig,
        on_end_told: Callable[[int], Awaitable[None]],
        tls: ssl.SSLContext | None = None,
        backoff: Backoff = _BACKOFF,
    ) -> None:
        self._config = config
        self._on_end_told = on_end_told
        self._backoff = backoff
        self._hosts = WebhookHosts(config.hosts)
        self._caller = WebhookCaller(self._hosts, config.timeout_s, tls)
        # By client and host, so that a slow host delays no other, and the jobs of one client those of no other.
        self._calls: defaultdict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(config.calls_max))
        self._disk = BlockingThreads(1, f"job_webhook_secret_path ({config.secret_path})")
        self._latest: dict[int, Job] = {}  # number → the job after the last change that was not sent yet
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._told: Counter[str] = Counter()  # client → number of its tasks

    def check_url(self, url: str) -> None:
        """Returns if a webhook may be called.

        Raises:
            Misfit: The URL is malformed, or its host is not in the list.
        """
        self._hosts.parse_url(url)

    def notify(self, job: Job) -> None:
        """Tells the webhook of a job, if it has one, of a change, some time later. Of changes that come fast, the last one is told.

        Of more jobs than may be told at a time, only the end is told, once there is room. No client with an API key takes all of that.
        """
        number, client = job.number, job.submission.client
        if not job.submission.webhook:
            return
        if number not in self._tasks:
            free = self._config.jobs_max - len(self._tasks)
            if free <= 0 or (client and self._told[client] > free):
                return
            self._told[client] += 1
            self._tasks[number] = asyncio.get_running_loop().create_task(self._tell(number, client))
        self._latest[number] = job

    def resume(self, jobs: Iterable[Job]) -> None:
        """Tells of the ends of jobs that nobody has been told, unless that is being done."""
        for job in jobs:
            if job.number not in self._tasks:
                self.notify(job)

    async def close(self) -> None:
        """Stops. What was not told is told by the next process."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self, number: int, client: str) -> None:
        try:
            while number in self._latest:
                job = await self._send_latest(number)
                if job.state.is_final:
                    await self._on_end_told(number)
                await asyncio.sleep(self._config.interval_ms / 1000)
        except Exception:  # it concerns this webhook only
            log.exception("the webhook of job %d cannot be told", number)
        finally:
            self._latest.pop(number, None)
            del self._tasks[number]
            self._told[client] -= 1

    async def _send_latest(self, number: int) -> Job:
        """Sends the last change of a job, or gives up after so many calls. Returns the job as it was sent last."""
        job, failures = self._latest[number], 0
        while True:
            newer = self._latest.pop(number, job)
            if newer.state.is_final and not job.state.is_final:
                failures = 0
            job = newer
            try:
                await self._post(job)
            except (WebhookFailed, BadWebhookSecret) as exc:
                failures += 1
                if failures >= self._config.attempts:
                    log.warning("the webhook of job %s is given up after %d calls: %s", job.id, failures, exc)
                    return job
                if failures == 1:
                    log.info("the webhook of job %s is called again: %s", job.id, exc)
            except PexdockError as exc:  # its host is no longer in the list
                log.warning("the webhook of job %s is not called: %s", job.id, exc)
                return job
            else:
                return job
            await asyncio.sleep(self._backoff.delay_s(failures))

    async def _post(self, job: Job) -> None:
        url = self._hosts.parse_url(job.submission.webhook)
        secrets = await self._disk.run(lambda: read_secrets(Path(self._config.secret_path)))
        body = msgspec.json.encode(job_document(job))
        message_id = hashlib.sha256(body).hexdigest()[:32]  # the same for each call that tells the same
        async with self._calls[job.submission.client, url.host]:
            await self._caller.post(url, sign(secrets, message_id, int(time.time()), body), body)
