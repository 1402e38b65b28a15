"""One attempt at a job: from its stored body to its stored result."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from base.endpoint.context import JobContext, RequestContext
from base.errors import PexdockError, Unavailable
from base.ipc.front_door_control import JobRunnerConfig, WorkerUnhealthy
from base.jobs.attempt import Progress
from runtime.front.app.asgi import request_context
from runtime.front.app.table_bodies import stored_body
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.problems import problem_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import ReplyObserver, RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.scheduling.admission import check_parameters, decode_rows, submit_request
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.workers.link import WorkerLink
from runtime.job_runner.releases import JobReleases, headers_of
from runtime.job_runner.results import store_result, when_room
from runtime.jobs.files import JobFiles
from runtime.jobs.job import BODY_LOST, Job, JobEvent, after_interruption, make_error
from runtime.jobs.store.interface import JobLimits, JobResult

log = logging.getLogger(__name__)

_LOOK_S = 0.05
"""Interval at which a cancelled job is looked for in its worker, in seconds. It lasts for the grace period at most."""

_BAD_REQUEST, _UNAVAILABLE = 400, 503


@dataclass(frozen=True)
class AttemptEnd:
    """The end of an attempt.

    Attributes:
        event: What happens to the job.
        error: Problem document of a job that failed.
        result: Its result, whose file is sealed.
    """

    event: JobEvent
    error: dict[str, object] | None = None
    result: JobResult | None = None


@dataclass(frozen=True)
class AttemptCalls:
    """Functions that attempts call.

    Attributes:
        begin: Stores that the attempt at a job begins, and returns the job as it is then; None if it has ended meanwhile.
        on_progress: Called with the job and each report of the handler.
        report: Reports a worker that must be replaced.
    """

    begin: Callable[[Job], Awaitable[Job | None]]
    on_progress: Callable[[Job, Progress], None]
    report: Callable[[WorkerUnhealthy], None]


class JobRun:
    """One attempt at a job.

    Args:
        job: The job, which is queued by its record, with the release on which it is to begin.
        files: The files of jobs.
        releases: Releases in force.
        config: The settings of jobs.
        calls: Functions that it calls.

    Attributes:
        job: The job, which is running by its record once the attempt has begun.
        has_begun: Whether the attempt has begun: a worker is free for it.
    """

    def __init__(
        self,
        job: Job,
        files: JobFiles,
        releases: JobReleases,
        config: JobRunnerConfig,
        calls: AttemptCalls,
    ) -> None:
        self.job = job
        self.has_begun = False
        self._files = files
        self._releases = releases
        self._config = config
        self._calls = calls
        self._observer = _JobObserver(lambda progress: calls.on_progress(self.job, progress))
        self._id = f"{job.id}-{job.number}-{job.attempts + 1}"  # other clients may have jobs of the same id
        self._request: InferenceRequest | None = None
        self._computing: asyncio.Task[AttemptEnd] | None = None
        self._ending: JobEvent | None = None

    async def run(self) -> AttemptEnd:
        """Runs the job, and returns how the attempt has ended."""
        computing = self._computing = asyncio.get_running_loop().create_task(self._compute())
        if self._ending is not None:
            computing.cancel()
        await asyncio.wait([computing])
        if self._ending is not None and (computing.cancelled() or self._ending is JobEvent.CANCEL):
            if self._request is not None:
                self._request.abandon()
            if self._ending is JobEvent.CANCEL:
                await self.wait_left()
                return AttemptEnd(JobEvent.CANCEL)
            may_repeat = self._request is None or self._request.may_retry
            return AttemptEnd(JobEvent.GIVE_BACK if may_repeat else JobEvent.INTERRUPT)
        try:
            return computing.result()
        except Unavailable:
            return self._interrupted()
        except _BodyLost as exc:
            return AttemptEnd(JobEvent.FAIL, make_error(self.job, exc.code, exc.detail))
        except PexdockError as exc:
            return AttemptEnd(JobEvent.FAIL, problem_of(exc, self.job))
        except Exception:  # it ends this job only
            log.exception("job %s failed", self._id)
            error = PexdockError("internal error; the log of the job runner has the reason, with the ID of the job")
            return AttemptEnd(JobEvent.FAIL, problem_of(error, self.job))

    def end(self, event: JobEvent) -> None:
        """Ends the attempt early, because the job is cancelled or given back."""
        self._ending = event
        if self._computing is not None:
            self._computing.cancel()

    async def _compute(self) -> AttemptEnd:
        with await when_room(self._open_body) as file:
            while True:
                head = await self._wait_worker()
                body = await stored_body(head, self._releases.table_files, file)
                with contextlib.ExitStack() as unowned:
                    if isinstance(body, BodyBuffer):
                        unowned.callback(body.close)
                    rows = await asyncio.to_thread(decode_rows, head, body, self._id)
                    await check_parameters(head)
                    if head.target.endpoint.release.retiring or not self._releases.claim_worker(head, self.job.number):
                        continue
                    job = await self._calls.begin(self.job)
                    if job is None:
                        return AttemptEnd(JobEvent.CANCEL)
                    self.job, self.has_begun = job, True
                    responded = self._submit(head, body, rows)
                    unowned.pop_all()
                del body, rows
                return await self._end(head, responded)

    def _submit(self, head: RequestHead, body: bytes | BodyBuffer, rows: Rows) -> asyncio.Future[HttpResponse]:
        """Submits the request, which owns the body then."""
        responded: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        spec = head.target.endpoint.spec
        if self.job.attempts > 1 and not spec.retry:
            raise _MayNotRepeat(f"attempt {self.job.attempts - 1} was interrupted, and the endpoint says that no request is computed twice")

        def on_response(response: HttpResponse) -> None:
            if not responded.done():  # else the attempt was ended meanwhile
                responded.set_result(response)

        context = self._context(head) if spec.unbatched else None
        self._request = request = submit_request(head, self._id, body, on_response, context, rows)
        request.observer, request.reply_files = self._observer, self._releases.table_files
        return responded

    async def _end(self, head: RequestHead, responded: asyncio.Future[HttpResponse]) -> AttemptEnd:
        """Waits for the response, and stores the result."""
        await self._wait_response(head, responded)
        response, spec = responded.result(), head.target.endpoint.spec
        if response.status == _UNAVAILABLE and spec.retry:
            return self._interrupted()
        if response.status >= _BAD_REQUEST:
            return AttemptEnd(JobEvent.FAIL, _problem_in(response, self.job))
        left_bytes = msgspec.convert(self._config.limits, JobLimits).results_left_bytes
        await store_result(self._files, self.job.number, response, self._observer.require_success, left_bytes)
        media_type, failed_groups = response.media_type.decode("latin-1"), int(dict(response.more).get(b"x-pexdock-failed-groups", 0))
        result = JobResult(media_type, self._observer.is_record, response.status, failed_groups)
        return AttemptEnd(JobEvent.FINISH, result=result)

    async def _wait_worker(self) -> RequestHead:
        """Waits until a worker of the job's release is free for it. Returns the head of the request.

        Raises:
            PexdockError: No worker can start, or the release does not exist any more.
        """
        releases, release_id = self._releases, self.job.release_id
        _, earlier = releases.failure(release_id)  # of workers for jobs before this one, for the same reason perhaps
        while True:
            head = releases.head(self.job, release_id, self._config.timeout_s)
            if head is not None and releases.claim_worker(head, self.job.number):
                return head
            failure, failed_starts = releases.failure(release_id)
            if failure and failed_starts > earlier:
                raise _NoWorker(f"no job worker of its release can start: {failure}")
            if not releases.knows(release_id):
                raise Unavailable("the release on which the job began is no longer there")
            await releases.wait_changed()

    async def _wait_response(self, head: RequestHead, responded: asyncio.Future[HttpResponse]) -> None:
        """Waits for the response.

        Raises:
            _NoWorker: The worker that had the job is gone, and no other one can start.
        """
        releases, release = self._releases, head.target.endpoint.release
        _, earlier = releases.failure(release.id)
        while not responded.done():
            changed = asyncio.ensure_future(releases.wait_changed())
            either: list[asyncio.Future[Any]] = [responded, changed]
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                changed.cancel()
            failure, failed_starts = releases.failure(release.id)
            if failure and failed_starts > earlier and not release.up and not responded.done():
                assert self._request is not None
                self._request.abandon()
                raise _NoWorker(f"its worker exited, and no other job worker of its release can start: {failure}")

    def _open_body(self) -> io.FileIO:
        """Opens the body, and makes the folder of checkpoints. Blocks."""
        try:
            self._files.make_checkpoint(self.job.number, self._config.worker_owner)
            return self._files.body(self.job.number).open("rb", buffering=0)
        except FileNotFoundError as exc:
            raise _BodyLost(BODY_LOST) from exc

    def _context(self, head: RequestHead) -> RequestContext:
        spec, submission = head.target.endpoint.spec, self.job.submission
        query = submission.target.partition("?")[2].encode("latin-1")
        context = request_context(spec, {"query_string": query}, headers_of(self.job), head.accept, self._id)
        if spec.group_by:  # calls for different groups would find each other's checkpoints, and their progress is counted in groups
            return context
        return replace(context, job=JobContext(self.job.attempts, str(self._files.checkpoint(self.job.number))))

    def _interrupted(self) -> AttemptEnd:
        event, error = after_interruption(self.job, int(self._config.limits["attempts"]))
        return AttemptEnd(event, error)

    async def wait_left(self) -> None:
        """Waits until no worker has the job any more, unless it is given back. Has a worker replaced that goes on for too long."""
        loop, grace_s = asyncio.get_running_loop(), self._config.cancel_grace_s
        end_s = loop.time() + grace_s
        is_reported = False
        while self._ending is not JobEvent.GIVE_BACK and (links := self._links()):  # a worker that ends unwanted work notifies nobody
            if loop.time() >= end_s and not is_reported:
                is_reported = True
                for link in links:
                    reason = f"its handler goes on with a job {grace_s:g} s after its end (job_cancel_grace_s)"
                    self._calls.report(WorkerUnhealthy(link.path, reason))
            await asyncio.sleep(_LOOK_S)

    def _links(self) -> list[WorkerLink]:
        """Returns the links to the workers that have the job or a part of it."""
        if self._request is None:
            return []
        queue = self._request.endpoint
        assert isinstance(queue, EndpointQueue)
        links = queue.scheduler.workers.every_link()
        return [link for link in links if any(each.requests[0].id == self._id for each in link.in_flight.batches.values())]


def problem_of(error: PexdockError, job: Job) -> dict[str, object]:
    """Returns the problem document of an error that ends a job, and logs it as one of a request."""
    return _problem_in(problem_response(error, f"{job.id}-{job.number}"), job)


def _problem_in(response: HttpResponse, job: Job) -> dict[str, object]:
    """Returns the problem document of a response, with the id that the client knows: numbers would tell it of other clients' jobs."""
    return msgspec.json.decode(response.body, type=dict[str, object]) | {"id": job.id}


class _NoWorker(PexdockError):
    """No job worker can start."""

    code = "no_worker"


class _BodyLost(PexdockError):
    """Somebody has removed the body."""

    code = "body_lost"


class _MayNotRepeat(PexdockError):
    """The job was interrupted, and may not be computed twice."""

    code = "interrupted"


class _JobObserver(ReplyObserver):
    """Learns what a response does not say: the handler's reports, whether its result is one record, and why a stream has ended early."""

    __slots__ = ("_error", "_on_progress", "is_record")

    reads_rows = False

    def __init__(self, on_progress: Callable[[Progress], None]) -> None:
        self._on_progress = on_progress
        self.is_record = False
        self._error: PexdockError | None = None

    def on_succeeded(self, replies: ReplyEncoder, start: int, row_count: int) -> None:  # noqa: ARG002 - the signature of observers
        """Notes whether the result is one record."""
        self.is_record = replies.is_record

    def on_failed(self, error: PexdockError, *, blamed: bool) -> None:  # noqa: ARG002 - as above
        """Notes the error: a response that is streamed has begun before it."""
        self._error = error

    def require_success(self) -> None:
        """Raises the error of the request, if it has failed."""
        if self._error is not None:
            raise self._error

    def on_progress(self, progress: Progress) -> None:
        """Passes a report on."""
        self._on_progress(progress)

    def on_abandoned(self) -> None:
        """Does nothing: the attempt has abandoned it."""
