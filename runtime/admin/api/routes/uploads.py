"""Uploads of pexes: streamed to a temporary file in dist/, verified, then renamed. An incomplete file never has a name that is watched."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from time import monotonic
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from base.errors import Conflict, Full, Malformed, PexdockError, PexRefused, TooLarge
from runtime.admin.api.context import UploadTarget
from runtime.admin.api.fields import File
from runtime.admin.api.limits import RequestLimits
from runtime.admin.api.openapi import document_responses
from runtime.admin.api.responses import json_response
from runtime.admin.schemas import Dropped
from runtime.blocking import BlockingThreads
from runtime.pex.dist_file import SIGNATURE_MAX_BYTES, SIGNATURE_SUFFIX, DistFileWriter, open_dist_file
from runtime.pex.file import read_pex

log = logging.getLogger(__name__)

_DIGEST_HEADER = "x-content-sha256"
_DIGEST = re.compile(r"[0-9a-f]{64}")

_PARALLEL = 4
_GRACE_S = 30.0
_BYTES_PER_S_MIN = 100_000
"""Minimum data rate after the grace period. A slower upload is aborted, since only a few may run at a time."""

_WRITE_BYTES = 1024 * 1024
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE}

_REQUEST: dict[str, Any] = {
    "parameters": [
        {"name": _DIGEST_HEADER, "in": "header", "required": True, "schema": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}}
    ],
    "requestBody": {"required": True, "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
}


def add_upload_route(app: FastAPI, target: UploadTarget) -> None:
    """Adds the route of uploads."""
    uploads = Uploads(target)

    @app.put(
        "/dist/{file}",
        status_code=HTTPStatus.CREATED,
        summary="Upload a pex, or the signature of one, to dist/",
        description=f"The body is the file, and the header {_DIGEST_HEADER} its sha256. The file appears in dist/ complete or not at all.",
        responses=document_responses(Dropped, 400, 404, 409, 413, 500, status=HTTPStatus.CREATED),
        openapi_extra=_REQUEST,
    )
    async def upload(file: File, request: Request) -> Response:
        return json_response(await uploads.receive(file, request), HTTPStatus.CREATED)


class Uploads:
    """The uploads in progress: a few at a time, and one for each file name."""

    def __init__(self, target: UploadTarget) -> None:
        self._target = target
        self._names: set[str] = set()
        self._threads = BlockingThreads(_PARALLEL)  # a slow disk must not block the supervisor's loop

    async def receive(self, name: str, request: Request) -> Dropped:
        """Writes the body of a request to dist/ as file `name`.

        Raises:
            PexdockError: The upload failed; dist/ is unchanged.
        """
        if self._target.dist_url:
            raise Conflict(f"dist/ mirrors {self._target.dist_url}: copy the file there")
        limit = SIGNATURE_MAX_BYTES if name.endswith(SIGNATURE_SUFFIX) else self._target.pex_max_bytes
        digest = _declared_digest(request)
        _refuse_declared_length(request, limit)
        begun, limits = monotonic(), RequestLimits.from_scope(request.scope)
        limits.extend(_GRACE_S, limit + 1)
        with self._reserved(name), _disk_errors(name):
            async with self._open_file(name) as drop:
                async for data in _chunks(request):
                    if drop.size_bytes + len(data) > limit:
                        raise _too_large(limit)
                    await self._threads.run(lambda data=data: drop.write(data))  # type: ignore[misc]
                    limits.extend(begun + _GRACE_S + drop.size_bytes / _BYTES_PER_S_MIN - monotonic())
                if drop.sha256 != digest:
                    raise Malformed(f"the body has sha256 {drop.sha256} instead of {digest}: upload it again")
                await self._threads.run(lambda: _land(drop, name))
        log.info("%s: uploaded by an operator, %d bytes, sha256 %s", name, drop.size_bytes, drop.sha256)
        return Dropped(name, drop.size_bytes, drop.sha256)

    @contextlib.asynccontextmanager
    async def _open_file(self, name: str) -> AsyncIterator[DistFileWriter]:
        """Opens a file of dist/, and removes it at the end unless it was published, on threads."""
        opened = contextlib.ExitStack()
        drop = await self._threads.run(lambda: opened.enter_context(open_dist_file(self._target.path, name)))
        try:
            yield drop
        finally:
            await self._threads.run(opened.close)

    @contextlib.contextmanager
    def _reserved(self, name: str) -> Iterator[None]:
        if name in self._names:
            raise Conflict(f"another upload of {name} is in progress: wait for it, or use another name")
        if len(self._names) >= _PARALLEL:
            raise Full(f"too many uploads: the limit is {_PARALLEL} at a time")
        self._names.add(name)
        try:
            yield
        finally:
            self._names.discard(name)


def _declared_digest(request: Request) -> str:
    found = request.headers.get(_DIGEST_HEADER, "").lower()
    if not _DIGEST.fullmatch(found):
        raise Malformed(f"missing or invalid header {_DIGEST_HEADER}: send the sha256 of the file, as `sha256sum` prints it")
    return found


def _refuse_declared_length(request: Request, limit: int) -> None:
    """Raises TooLarge before the body is read, if the client declares its length."""
    text = request.headers.get("content-length")
    if text and text.isdigit() and int(text) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"file too large: the limit is {limit} bytes (setting pex_max_bytes; signatures have a limit of their own)")


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yields the body in chunks that are large enough to write on a thread."""
    chunk = bytearray()
    try:
        async for data in request.stream():
            chunk += data
            if len(chunk) >= _WRITE_BYTES:
                yield bytes(chunk)
                chunk.clear()
    except ClientDisconnect as exc:
        raise Malformed("the connection closed before the body was complete") from exc
    yield bytes(chunk)


def _land(drop: DistFileWriter, name: str) -> None:
    """Moves the file to its name. A file that is obviously not a pex is refused first, so that its sender gets the error at once."""
    if not name.endswith(SIGNATURE_SUFFIX):
        try:
            read_pex(drop.flush_to_path(), checksums=False)
        except PexRefused as exc:
            raise PexRefused(f"{name}: {exc.detail.removeprefix(f'{drop.temporary_path.name}: ')}") from exc
    drop.publish()


@contextlib.contextmanager
def _disk_errors(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        log.error("%s: cannot write the upload: %s", name, exc)  # noqa: TRY400 - the operating system's reason is enough
        kind = Full if exc.errno in _OUT_OF_SPACE else PexdockError
        raise kind(f"cannot write {name} to dist/: {exc.strerror or exc}") from exc
