"""The resource /jobs: answers all requests about jobs, and makes jobs of requests for endpoints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

import msgspec
from packaging.utils import canonicalize_name

from base.errors import Full, Malformed, Misfit, NotFound
from base.ipc.front_door_control import JobAccess
from runtime.front.app.asgi import Receive, Scope, Send, send_response, wait_disconnected
from runtime.front.app.health import page_of
from runtime.front.app.jobs.ending import Ending
from runtime.front.app.jobs.events import EventStreams
from runtime.front.app.jobs.intake import JobIntake, JobOrder
from runtime.front.app.jobs.places import Places
from runtime.front.app.jobs.prefer import JobPreference, parse_prefer
from runtime.front.app.jobs.results import ResultRequest, ResultSender
from runtime.front.app.slow_bodies import SlowBodies
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.problems import method_not_allowed_response
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target, parse_query
from runtime.front.routing.route_table import RouteTable
from runtime.http.head_rules import combine_headers
from runtime.http.problems import MEDIA_TYPE
from runtime.jobs.client import JobClient
from runtime.jobs.documents import JobDocument, JobList
from runtime.jobs.files import JobFiles
from runtime.jobs.job import JOB_ID, JobState
from runtime.jobs.messages import (
    COUNT_MAX,
    CancelJob,
    FindResult,
    FollowJob,
    GetJob,
    JobFound,
    JobsFound,
    ListJobs,
    ResultFound,
)

_POLL_S = b"1"
"""Time in seconds after which a client may ask about a job again."""

_COUNT = 100
"""Jobs of a list whose client sets no limit."""

_FILTERS = ("state", "model", "limit", "cursor")
"""Parameters of a list."""

_NO_JOB = "no job has this ID, or it was forgotten; GET /jobs lists those that are known"

_QUERY_PATH = re.compile(rb"(?:^|&)path=([^&]*)")


class JobCall(NamedTuple):
    """One request about jobs.

    Attributes:
        scope: Its ASGI scope.
        receive: Receives its body.
        send: Sends the response.
        client: The client, by its API key.
        request_id: Id of the request.
    """

    scope: Scope
    receive: Receive
    send: Send
    client: str
    request_id: str


class JobResource:
    """Answers requests about jobs.

    Args:
        access: Where the jobs are, and their limits.
        routes: Routes of the table in force.
        slow_bodies: Decodes bodies on threads.
        table_files: The files of large tables.
        timeout_s: Time limit for the job runner to reply, and for a client to read one part of a response, in seconds.
    """

    def __init__(self, access: JobAccess, routes: RouteTable, slow_bodies: SlowBodies, table_files: TableFiles, timeout_s: float) -> None:
        self._ending = Ending()
        self._runner = JobClient(access.socket, timeout_s, self._ending.limit)
        self._intake = JobIntake(access, self._runner, routes, slow_bodies, table_files)
        self._events = EventStreams(self._runner, timeout_s, self._ending)
        self._results = ResultSender(JobFiles(Path(access.state_path)).folder, timeout_s, self._ending)
        self._routes = routes
        self._timeout_s = timeout_s
        self._event_places = Places("event streams")
        self._result_places = Places("results")
        self._wait_places = Places("responses that wait for a job")

    def reconfigure(self, access: JobAccess) -> None:
        """Applies new limits to requests that arrive from now on."""
        self._intake.access = access

    def begin_end(self) -> None:
        """Ends event streams, answers clients that wait for a job, and hurries all else, so that nobody waits for them at a shutdown."""
        self._ending.begin()

    async def answer(self, call: JobCall, path: str) -> None:
        """Answers a request for /jobs or what is below it.

        Args:
            call: The request.
            path: Its path in the canonical form.

        Raises:
            PexdockError: The request is refused. No response was begun.
        """
        method, headers = call.scope["method"], combine_headers(call.scope["headers"])
        head_only = method == "HEAD"
        match ["GET" if head_only else method, *map(_decoded, path.split("/")[2:])]:
            case ["GET"]:
                await self._send_json(call, await self._list(call))
            case ["PUT", job_id]:
                await self._put(call, job_id, headers)
            case ["GET", job_id]:
                await self._send_json(call, (await self._runner.ask(GetJob(call.client, _known(job_id)), JobFound)).document)
            case ["DELETE", job_id]:
                document = (await self._runner.ask(CancelJob(call.client, _known(job_id)), JobFound)).document
                await self._send_json(call, document, HTTPStatus.OK if document.state.is_final else HTTPStatus.ACCEPTED)
            case ["GET", job_id, "result"]:
                with self._result_places.take(call.client, self._intake.access.streams_max):
                    await self._send_result(call, _known(job_id))
            case ["GET", job_id, "events"] if not head_only:
                with self._event_places.take(call.client, self._intake.access.streams_max):
                    await self._events.send(call.client, _known(job_id), headers, call.request_id, call.receive, call.send)
            case [_, *below] if (allowed := _ALLOWED.get(tuple(below[1:]))) is not None:
                allowed = allowed if below else "GET, HEAD"
                await send_response(call.send, method_not_allowed_response(call.request_id, allowed))
            case _:
                raise NotFound("jobs have no such path; GET /openapi.json lists all paths")

    async def accept(self, call: JobCall, target: Target, preference: JobPreference, job_id: str | None = None) -> None:
        """Makes a job of a request, and answers with it; or with its result, if the client waits for it and it is done in time.

        Args:
            call: The request.
            target: Endpoint and parameters.
            preference: The preferences of the client.
            job_id: The id that the client has chosen; None for a new one.

        Raises:
            PexdockError: The request is refused. No response was begun.
        """
        headers = combine_headers(call.scope["headers"])
        order = JobOrder(target, headers, call.client, job_id, call.request_id)
        document = (await self._intake.accept(order, call.receive)).document
        more: tuple[tuple[bytes, bytes], ...] = ((b"location", b"/jobs/" + document.id.encode()),)
        if preference.respond_async:
            more += ((b"preference-applied", b"respond-async"),)
        if preference.wait_s:
            try:
                with self._wait_places.take(call.client, self._intake.access.streams_max):
                    document = await self._wait_ended(call, document, preference.wait_s)
                    if document.state.is_final:
                        await self._send_ended(call, document, more)
                        return
            except Full:
                if document.state.is_final:
                    raise
        await self._send_json(call, document, HTTPStatus.OK if document.state.is_final else HTTPStatus.ACCEPTED, more)

    async def _put(self, call: JobCall, job_id: str, headers: Mapping[bytes, bytes]) -> None:
        """Makes a job with an id that the client has chosen, unless there is one. The query names the endpoint."""
        if not JOB_ID.fullmatch(job_id):
            raise Misfit(
                "the ID of a job has 1 to 128 letters, digits, dots, dashes and underscores, and does not begin with a dot; choose another"
            )
        query = call.scope["query_string"]
        field = _QUERY_PATH.search(query)
        if field is None:
            raise Malformed("the query does not name an endpoint; send PUT /jobs/ID?path=/ENDPOINT, and its parameters after that")
        path, _, own_query = unquote_to_bytes(field[1]).partition(b"?")
        rest = (query[: field.start()], query[field.end() :].removeprefix(b"&" if field.start() == 0 else b""))
        is_path = path.startswith(b"/") and page_of(path) is None  # behind a method, it would lead to an endpoint with that method
        target = self._routes.route(path, b"&".join(filter(None, (own_query, b"".join(rest))))) if is_path else None
        if target is None:
            raise NotFound("no endpoint has the path that the query names; GET /docs lists those that are served")
        await self.accept(call, target, parse_prefer(headers.get(b"prefer", b"")), job_id)

    async def _list(self, call: JobCall) -> JobList:
        """Returns a page of the client's jobs.

        Raises:
            Malformed: The query is not UTF-8.
            Misfit: It has an unknown parameter, or one with an invalid value.
        """
        given = parse_query(call.scope["query_string"])
        if unknown := [name for name in given if name not in _FILTERS]:
            raise Misfit(f"a list of jobs has no parameter {unknown[0][:64]!r}; it has {', '.join(_FILTERS)}")
        states = [state for value in given.get("state", []) for state in value.split(",")]
        if wrong := [state for state in states if state not in set(JobState)]:
            raise Misfit(f"state: {wrong[0][:64]!r} is not one of {', '.join(JobState)}")
        after = _single(given, "cursor")
        if after and not JOB_ID.fullmatch(after):
            raise Misfit("cursor: it is not the `next` of a list")
        request = ListJobs(
            call.client,
            [JobState(state) for state in states],
            canonicalize_name(_single(given, "model")),
            count_max=_number(given, "limit", _COUNT, COUNT_MAX),
            after=after,
        )
        found = await self._runner.ask(request, JobsFound)
        return JobList(found.documents, None if found.before is None else found.documents[-1].id)

    async def _wait_ended(self, call: JobCall, document: JobDocument, wait_s: float) -> JobDocument:
        """Returns the job as it is after its end, or after the time that the client waits, or when it disconnects."""

        async def follow() -> None:
            nonlocal document
            async with aclosing(self._runner.follow(FollowJob(call.client, document.id))) as changes:
                async for change in changes:
                    document = change.document

        if document.state.is_final:
            return document
        tasks = [asyncio.ensure_future(each) for each in (follow(), wait_disconnected(call.receive), self._ending.wait())]
        try:
            await asyncio.wait(tasks, timeout=min(wait_s, self._timeout_s), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return document

    async def _send_ended(self, call: JobCall, document: JobDocument, more: tuple[tuple[bytes, bytes], ...]) -> None:
        """Answers a client that waits with what the request itself would have got: the result of the job, or its error.

        Raises:
            PexdockError: The job was cancelled or has expired.
        """
        if document.error is None:
            await self._send_result(call, document.id, more)
            return
        status = document.error.get("status")
        assert isinstance(status, int)  # as in every problem document
        await send_response(call.send, HttpResponse(status, MEDIA_TYPE, call.request_id, msgspec.json.encode(document.error), more))

    async def _send_result(self, call: JobCall, job_id: str, more: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        """Answers with the result of a job.

        Raises:
            PexdockError: It has none.
        """
        found = await self._runner.ask(FindResult(call.client, job_id), ResultFound)
        head_only = call.scope["method"] == "HEAD"
        request = ResultRequest(combine_headers(call.scope["headers"]), call.request_id, more, head_only)
        await self._results.send(found, request, call.receive, call.send)

    @staticmethod
    async def _send_json(
        call: JobCall, document: JobDocument | JobList, status: int = HTTPStatus.OK, more: tuple[tuple[bytes, bytes], ...] = ()
    ) -> None:
        more += ((b"cache-control", b"no-store"),)
        if isinstance(document, JobDocument) and not document.state.is_final:
            more += ((b"retry-after", _POLL_S),)
        await send_response(call.send, HttpResponse(status, b"application/json", call.request_id, msgspec.json.encode(document), more))


_ALLOWED = {(): "GET, HEAD, PUT, DELETE", ("result",): "GET, HEAD", ("events",): "GET"}
"""Methods of the paths below /jobs/ID, by what follows the ID."""


def _decoded(segment: str) -> str:
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def _known(job_id: str) -> str:
    """Returns an id that a job may have. Raises NotFound for any other."""
    if not JOB_ID.fullmatch(job_id):
        raise NotFound(_NO_JOB)
    return job_id


def _single(given: Mapping[str, list[str]], name: str) -> str:
    """Returns the value of a parameter that may be given once; empty if it is not given."""
    values = given.get(name, [""])
    if len(values) > 1:
        raise Misfit(f"{name}: it is given {len(values)} times; give it once")
    return values[0]


def _number(given: Mapping[str, list[str]], name: str, default: int, most: int) -> int:
    if name not in given:
        return default
    value = _single(given, name)
    if not re.fullmatch("[0-9]{1,15}", value) or not 1 <= int(value) <= most:
        raise Misfit(f"{name}: {value[:64]!r} is not a whole number from 1 to {most}")
    return int(value)
