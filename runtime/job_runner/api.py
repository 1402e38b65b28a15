"""Serves the job runner's Unix socket: front doors and the supervisor submit, find, list, follow and cancel jobs."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Collection, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from base.errors import Conflict, Gone, PexdockError, Unavailable
from runtime.jobs.documents import JobDocument, job_document
from runtime.jobs.job import Job, JobState, Submission
from runtime.jobs.messages import (
    COUNT_MAX,
    LINE_MAX_BYTES,
    CancelJob,
    FindResult,
    FollowJob,
    GetJob,
    JobChanged,
    JobFound,
    JobReply,
    JobRequest,
    JobsFound,
    ListJobs,
    Refused,
    ResultFound,
    SubmitJob,
    decode_request,
    encode_line,
)

log = logging.getLogger(__name__)

_REQUEST_S = 10.0
"""Time limit for a request to arrive, in seconds. Who connects sends it at once."""

_BACKLOG = 1024
"""Connections that wait while the runner restarts."""


class Jobs(Protocol):
    """The part of the job runner that the socket needs."""

    async def submit(self, submission: Submission) -> tuple[Job, bool]:
        """Stores a job, and returns it with whether it is new, once it survives a power cut."""

    async def get(self, client: str, job_id: str) -> Job:
        """Returns a job of a client."""

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
        """Returns jobs, the newest first."""

    async def cancel(self, client: str, job_id: str) -> Job:
        """Cancels a job of a client, unless it has ended, and returns it."""

    def follow(self, client: str, job_id: str, after: int) -> AsyncIterator[tuple[int, Job]]:
        """Yields the job after each change whose number is higher than `after`, up to its end; skips those that are forgotten."""

    def jobs_before(self, job: Job) -> int:
        """Returns the number of jobs that begin before a job that is queued."""

    def result_path(self, job: Job) -> Path:
        """Returns the file with the result of a job that is done."""


class JobApi:
    """Answers the requests of the socket.

    Args:
        jobs: The runner's jobs, or the reason why there are none.

    Attributes:
        jobs: As given; it may be replaced.
    """

    def __init__(self, jobs: Jobs | PexdockError) -> None:
        self.jobs = jobs

    async def listen(self, listener: socket.socket) -> asyncio.Server:
        """Accepts connections until the server that it returns is closed."""
        return await asyncio.start_unix_server(self._on_connection, sock=listener, limit=LINE_MAX_BYTES, backlog=_BACKLOG)

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers one request, and stops following a job once the client is gone."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                return
            request = decode_request(line)
            jobs = self.jobs
            if isinstance(jobs, PexdockError):
                await _send(writer, Refused.from_error(jobs))
                return
            if not isinstance(request, FollowJob):
                await _send(writer, await self._reply(jobs, request))
                return
            sending = asyncio.ensure_future(self._send_changes(jobs, request, writer))
            gone = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
            finally:
                sending.cancel()
                gone.cancel()
                await asyncio.gather(sending, gone, return_exceptions=True)
        except (TimeoutError, OSError, ValueError, msgspec.MsgspecError) as exc:
            log.debug("a connection of the job runner's socket has ended: %s", exc)
        finally:
            writer.close()

    async def _reply(self, jobs: Jobs, request: JobRequest) -> JobReply:
        try:
            return await self._answer(jobs, request)
        except PexdockError as exc:
            return Refused.from_error(exc)
        except Exception:  # it ends this request only
            log.exception("a request of %s failed", type(request).__name__)
            return Refused.from_error(PexdockError("internal error; the log of the job runner has the reason"))

    async def _answer(self, jobs: Jobs, request: JobRequest) -> JobReply:
        match request:
            case SubmitJob(submission):
                job, is_new = await jobs.submit(submission)
                return JobFound(_document(jobs, job), is_new)
            case GetJob(client, job_id):
                return JobFound(_document(jobs, await jobs.get(client, job_id)))
            case CancelJob(client, job_id):
                return JobFound(_document(jobs, await jobs.cancel(client, job_id)))
            case FindResult(client, job_id):
                return _result(jobs, await jobs.get(client, job_id))
            case ListJobs(client, states, model, before, count_max, after, job_id):
                if after and client is not None:
                    before = (await jobs.get(client, after)).number
                count = min(max(count_max, 1), COUNT_MAX)
                found = await jobs.list_jobs(client, job_id=job_id, states=states, model=model, before=before, count_max=count)
                documents = [_document(jobs, job, client=job.submission.client if client is None else "") for job in found]
                return JobsFound(documents, found[-1].number if len(found) == count else None)
            case FollowJob():
                raise AssertionError("it has several replies")

    async def _send_changes(self, jobs: Jobs, request: FollowJob, writer: asyncio.StreamWriter) -> None:
        """Sends the job as it is, and each change once the client has read the ones before."""
        try:
            await _send(writer, JobFound(_document(jobs, await jobs.get(request.client, request.id))))
            async for number, job in jobs.follow(request.client, request.id, request.after):
                await _send(writer, JobChanged(number, _document(jobs, job)))
        except PexdockError as exc:
            await _send(writer, Refused.from_error(exc))
        except Exception:  # as in `_reply`
            log.exception("the changes of job %s cannot be sent", request.id)
            await _send(writer, Refused.from_error(Unavailable("internal error; the log of the job runner has the reason")))


def _document(jobs: Jobs, job: Job, client: str = "") -> JobDocument:
    place = jobs.jobs_before(job) + 1 if job.state is JobState.QUEUED else None
    return job_document(job, place=place, client=client)


def _result(jobs: Jobs, job: Job) -> ResultFound:
    document = _document(jobs, job)
    match job.state:
        case JobState.DONE:
            return ResultFound(document, job.number, str(jobs.result_path(job)), job.one_record, job.result_status)
        case JobState.QUEUED | JobState.RUNNING:
            raise Conflict(f"the job is {job.state}, and has no result yet; wait for it with GET /jobs/{job.id}/events")
        case JobState.FAILED:
            raise Conflict(f"the job has failed: {document.reason}; GET /jobs/{job.id} has the whole error")
        case JobState.CANCELLED:
            raise Conflict("the job was cancelled, so it has no result; submit it again")
        case JobState.EXPIRED if job.started_s is None:
            raise Gone("the job has expired, since it could not begin in time; submit it again")
        case JobState.EXPIRED:
            raise Gone("the job has expired, and its result was removed; submit it again, and fetch the result earlier")


async def _send(writer: asyncio.StreamWriter, reply: JobReply) -> None:
    writer.write(encode_line(reply))
    await writer.drain()
