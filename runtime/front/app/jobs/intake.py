"""Accepts requests as jobs: checks them as any request, stores their bodies, and submits them to the job runner."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.utils import canonicalize_name

from base.ipc.front_door_control import JobAccess
from runtime.blocking import BlockingThreads
from runtime.front.app.asgi import Receive, check_coding, receive_piece
from runtime.front.app.jobs.disk import disk_errors
from runtime.front.app.slow_bodies import SlowBodies
from runtime.front.app.table_bodies import require_size, stored_body
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.hints import PREFER_HEADER, VERSION_HEADER
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.routing.route_table import RouteTable
from runtime.front.scheduling.admission import check_parameters, check_row_count
from runtime.jobs.client import JobClient
from runtime.jobs.files import IncomingBody, JobFiles, require_room
from runtime.jobs.job import Submission
from runtime.jobs.messages import JobFound, SubmitJob
from runtime.jobs.webhook_hosts import WebhookHosts

WEBHOOK_HEADER = b"x-pexdock-webhook"
"""Header with the URL that is told of a job's changes."""

_CHUNK_BYTES = 1024 * 1024
"""Bytes that are written at a time, on a thread."""

_PARALLEL = 4
"""Files that are written at a time. A disk writes no more of them faster."""

_CHECKS = 2
"""Bodies that are checked at a time. Until then, a body takes no memory."""


@dataclass(frozen=True)
class JobOrder:
    """A request for a job, whose body is still to come.

    Attributes:
        target: Endpoint and parameters.
        headers: All headers of the request.
        client: The client that submits it.
        job_id: The id that the client has chosen; None for a new one.
        request_id: Id of the request.
    """

    target: Target
    headers: Mapping[bytes, bytes]
    client: str
    job_id: str | None
    request_id: str


class JobIntake:
    """Accepts requests as jobs.

    Args:
        access: Where the jobs are, and their limits.
        runner: The job runner.
        routes: Routes of the table in force.
        slow_bodies: Decodes bodies on threads.
        table_files: The files of large tables.

    Attributes:
        access: As given; it may be replaced.
    """

    def __init__(self, access: JobAccess, runner: JobClient, routes: RouteTable, slow_bodies: SlowBodies, table_files: TableFiles) -> None:
        self.access = access
        self._runner = runner
        self._routes = routes
        self._slow_bodies = slow_bodies
        self._table_files = table_files
        self._files = JobFiles(Path(access.state_path))
        self._checks = asyncio.Semaphore(_CHECKS)
        self._disk = BlockingThreads(_PARALLEL)  # which may take long: a body is flushed as a whole

    async def accept(self, order: JobOrder, receive: Receive) -> JobFound:
        """Returns the job once it is stored, so that it survives a power cut.

        Raises:
            PexdockError: The request is refused, and nothing was stored.
            Disconnected: The client has disconnected before its body was complete; likewise.
        """
        headers = order.headers
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        head = self._routes.request_head(order.target, headers, content_type, "")
        check_coding(head.target.endpoint.spec, headers)
        announced = headers.get(b"content-length", b"")
        self._require_size(head, int(announced or 0))
        webhook = headers.get(WEBHOOK_HEADER, b"").decode("latin-1")
        if webhook:
            WebhookHosts(self.access.webhook_hosts).parse_url(webhook)
        await _check_parameters(head)
        target = order.target.path + (b"?" + order.target.query if order.target.query else b"")
        kept = _kept_headers(order.target, headers)
        digest = hashlib.sha256(b"%b\0%b\0" % (target, content_type.encode()))
        for name, value in (_deciding_headers(kept, strict=head.hints.strict) | ({"webhook": webhook} if webhook else {})).items():
            digest.update(f"{name}: {value}\0".encode())
        with disk_errors():
            async with self._new_file() as file:
                size = 0
                async for chunk in _chunks(receive):
                    size += len(chunk)
                    self._require_size(head, size)
                    await self._disk.run(lambda chunk=chunk: self._write(file, chunk, digest))  # type: ignore[misc]
                await self._check_body(head, file, order.request_id)
                await self._disk.run(file.sync)
                submission = Submission(
                    client=order.client,
                    id=order.job_id,
                    model=canonicalize_name(head.target.endpoint.release.spec.model),
                    target=target.decode("latin-1"),
                    headers=kept,
                    body_file=file.name,
                    body_bytes=size,
                    digest=digest.hexdigest(),
                    priority=head.urgency,
                    webhook=webhook,
                )
                return await self._runner.ask(SubmitJob(submission), JobFound)

    def _require_size(self, head: RequestHead, size: int) -> None:
        require_size(head, size, self.access.body_max_bytes, self._table_files, "job_body_max_bytes")

    async def _check_body(self, head: RequestHead, file: IncomingBody, request_id: str) -> None:
        """Raises the error of a body that does not fit. The rows are dropped: the job decodes the body again when it runs."""
        async with self._checks:
            body = await stored_body(head, self._table_files, file.file)
            try:
                selected, rows = await self._slow_bodies.decode(head, body, request_id, queued=False)
            finally:
                if isinstance(body, BodyBuffer):
                    body.close()
        assert rows is not None  # it was not queued, but decoded
        check_row_count(selected.target.endpoint, rows.count)

    def _write(self, file: IncomingBody, chunk: bytes, digest: hashlib._Hash) -> None:
        """Appends to a body. Stops before the disk is full, since records and results need room, too."""
        require_room(file.file.fileno(), len(chunk), self.access.disk_min_free_bytes)
        digest.update(chunk)
        rest = memoryview(chunk)
        while rest:
            rest = rest[file.file.write(rest) :]

    @contextlib.asynccontextmanager
    async def _new_file(self) -> AsyncIterator[IncomingBody]:
        file = await self._disk.run(self._files.new_body)
        try:
            yield file
        finally:
            await self._disk.run(file.close)


async def _chunks(receive: Receive) -> AsyncIterator[bytes]:
    """Yields a body in chunks that are large enough to write on a thread."""
    chunk, more = bytearray(), True
    while more:
        piece, more = await receive_piece(receive)
        chunk += piece
        if len(chunk) >= _CHUNK_BYTES or (chunk and not more):
            yield bytes(chunk)
            chunk.clear()


async def _check_parameters(head: RequestHead) -> None:
    """Raises the error of parameters that do not fit. A request's own path is checked with its call, which here would be too late."""
    if head.target.endpoint.spec.parameters and head.target.admitted:
        head.target = copy.copy(head.target)
        head.target.admitted = False
    await check_parameters(head)


def _deciding_headers(kept: Mapping[str, str], *, strict: bool) -> dict[str, str]:
    """Returns what the headers that are kept say about the result: of the preferences only that one, and the media type is known."""
    others = {name: value for name, value in kept.items() if name not in ("content-type", PREFER_HEADER.decode())}
    return others | ({"handling": "strict"} if strict else {})


def _kept_headers(target: Target, headers: Mapping[bytes, bytes]) -> dict[str, str]:
    """Returns the headers that decide how the job runs, and those that its handler may see."""
    names = {b"content-type", PREFER_HEADER, VERSION_HEADER, *(name.encode() for name in target.endpoint.spec.headers)}
    return {name.decode("latin-1"): headers[name].decode("latin-1") for name in sorted(names) if name in headers}
