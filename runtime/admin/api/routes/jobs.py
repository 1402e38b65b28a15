"""Jobs of all clients. The supervisor asks the job runner."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Annotated

from fastapi import FastAPI, Path, Query, Response
from packaging.utils import canonicalize_name

from base.errors import NotFound
from runtime.admin.api.context import AdminContext
from runtime.admin.api.ndjson import NdjsonStream
from runtime.admin.api.openapi import document_responses
from runtime.admin.api.responses import json_response
from runtime.jobs.client import JobClient
from runtime.jobs.documents import JobDocument, JobList
from runtime.jobs.job import JOB_ID, JobState
from runtime.jobs.messages import COUNT_MAX, CancelJob, FollowJob, GetJob, JobChanged, JobFound, JobsFound, ListJobs

JobId = Annotated[str, Path(pattern=f"^{JOB_ID.pattern}$")]
Client = Annotated[str, Query(description="Client that submitted the job; empty if requests need no API key.")]


def add_job_routes(app: FastAPI, context: AdminContext) -> None:
    """Adds the routes of jobs."""

    def runner() -> JobClient:
        if context.jobs is None:
            raise NotFound("there are no jobs here: set job_workers to 1 or more")
        return context.jobs

    @app.get("/jobs", summary="List the jobs of all clients, the newest first", responses=document_responses(JobList, 404))
    async def jobs(
        state: Annotated[list[JobState], Query(description="List only jobs in this state; may be repeated.")] = [],  # noqa: B006 - FastAPI copies it
        model: Annotated[str, Query(description="List only jobs of this model.")] = "",
        limit: Annotated[int, Query(ge=1, le=COUNT_MAX)] = 100,
        cursor: Annotated[int | None, Query(ge=1, le=2**53, description="`next` of the list before.")] = None,
    ) -> Response:
        found = await runner().ask(ListJobs(None, state, canonicalize_name(model), cursor, limit), JobsFound)
        return json_response(JobList(found.documents, None if found.before is None else str(found.before)))

    @app.get(
        "/jobs/{job_id}",
        summary="Describe a job, or follow it until it has ended",
        responses=document_responses(JobDocument, 404, line=JobDocument),
    )
    async def job(
        job_id: JobId,
        client: Client = "",
        follow: Annotated[bool, Query(description="Stream a line of JSON now and after each change.")] = False,
    ) -> Response:
        found = await _of_client(runner(), GetJob(client, job_id))
        return NdjsonStream(_changes(runner(), client, job_id)) if follow else json_response(found.document)

    @app.delete("/jobs/{job_id}", summary="Cancel a job, unless it has ended", responses=document_responses(JobDocument, 404))
    async def cancel(job_id: JobId, client: Client = "") -> Response:
        return json_response((await _of_client(runner(), CancelJob(client, job_id))).document)


async def _of_client(runner: JobClient, request: GetJob | CancelJob) -> JobFound:
    """Returns the reply to a request for a job. If its client has none of this id, the error names the clients that have one."""
    try:
        return await runner.ask(request, JobFound)
    except NotFound:
        found = await runner.ask(ListJobs(None, id=request.id), JobsFound)
        names = ", ".join(sorted(each.client or "requests without a key" for each in found.documents))
        known = f"jobs with this ID are of: {names}; name the client (--client)" if names else "no client has one: list the jobs"
        of = f"client {request.client}" if request.client else "requests without a key"
        raise NotFound(f"there is no job {request.id} of {of}; {known}") from None


async def _changes(runner: JobClient, client: str, job_id: str) -> AsyncIterator[Sequence[JobDocument]]:
    async for change in runner.follow(FollowJob(client, job_id)):
        if isinstance(change, JobChanged):
            yield [change.document]
