"""Sends results of jobs: the stored bytes as they are, or rows in another media type. A slow client holds an open file and no memory."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import IO, NamedTuple

import base
from base.errors import Gone
from runtime.blocking import BlockingThreads
from runtime.front.app.asgi import Receive, Send, send_response, wait_disconnected
from runtime.front.app.jobs.disk import disk_errors
from runtime.front.app.jobs.ending import Ending
from runtime.front.app.jobs.ranges import Unsatisfiable, matches_etag, requested_range
from runtime.front.codecs import media_types
from runtime.front.codecs.encoder import ResponseFormat
from runtime.front.codecs.stored_rows import encode_stored_rows
from runtime.front.requests.problems import range_not_satisfiable_response
from runtime.front.requests.response import HttpResponse
from runtime.jobs.messages import ResultFound

log = logging.getLogger(__name__)

_PART_BYTES = 256 * 1024
"""Bytes that are read and sent at a time."""

_IN_MEMORY_BYTES = 1024 * 1024
"""Size up to which a body that is encoded stays in memory. A larger one is written to a file without a name."""

_PARALLEL = 2
"""Results that are encoded, or read from the disk, at a time."""

_HEADERS = ((b"accept-ranges", b"bytes"), (b"vary", b"accept"), (b"cache-control", b"private, no-cache"))


class ResultRequest(NamedTuple):
    """A request for the result of a job.

    Attributes:
        headers: Headers of the request.
        request_id: Id of the request.
        more: Headers of the response besides those of the result.
        head_only: Whether the response has no body.
    """

    headers: Mapping[bytes, bytes]
    request_id: str
    more: tuple[tuple[bytes, bytes], ...] = ()
    head_only: bool = False


class ResultSender:
    """Sends results.

    Args:
        folder: Folder for bodies that are encoded, on the disk of the results.
        timeout_s: Time limit for a client to read one part, in seconds.
        ending: The end of the front door, which shortens that limit.
    """

    def __init__(self, folder: Path, timeout_s: float, ending: Ending) -> None:
        self._folder = folder
        self._timeout_s = timeout_s
        self._ending = ending
        self._disk = BlockingThreads(_PARALLEL)

    async def send(self, found: ResultFound, request: ResultRequest, receive: Receive, send: Send) -> None:
        """Sends a result, or the range of its bytes that the client wants.

        Raises:
            Gone: The result was removed meanwhile.
            PexdockError: It has no form in the media type, or the disk is full.
        """
        assert found.document.result is not None
        stored_type = found.document.result.media_type
        response_format = ResponseFormat.negotiate(request.headers.get(b"accept", b"").decode("latin-1"))
        if stored_type == media_types.ARROW != response_format.media_type.decode():
            media_type, opening = response_format.media_type, self._encoded(found, response_format)
        else:
            media_type, opening = stored_type.encode("latin-1"), self._stored(found)
        etag = _etag(found, media_type)
        headers = (
            (b"etag", etag),
            (b"accept-ranges", b"bytes"),
            (b"vary", b"accept"),
            (b"cache-control", b"private, no-cache"),
            *request.more,
        )
        if failed_groups := found.document.result.failed_groups:
            headers += ((b"x-pexdock-failed-groups", b"%d" % failed_groups),)
        if matches_etag(request.headers.get(b"if-none-match", b""), etag):
            await send_response(send, HttpResponse(304, b"", request.request_id, b"", headers))
            return
        if found.status == HTTPStatus.NO_CONTENT:
            await send_response(send, HttpResponse(found.status, b"", request.request_id, b"", request.more))
            return
        with disk_errors():
            async with opening as (file, size):
                value = request.headers.get(b"range", b"") if found.status == HTTPStatus.OK else b""
                try:
                    wanted = requested_range(value, request.headers.get(b"if-range", b""), etag, size)
                except Unsatisfiable:
                    await send_response(send, range_not_satisfiable_response(size, request.request_id))
                    return
                start, end = wanted or (0, size)
                if wanted is not None:
                    headers += ((b"content-range", b"bytes %d-%d/%d" % (start, end - 1, size)),)
                headers += ((b"content-length", b"%d" % (end - start)),)
                head = HttpResponse(
                    found.status if wanted is None else HTTPStatus.PARTIAL_CONTENT, media_type, request.request_id, b"", headers
                )
                await self._send_bytes(file, (end, end) if request.head_only else (start, end), head, receive, send)

    async def _send_bytes(self, file: IO[bytes], span: tuple[int, int], head: HttpResponse, receive: Receive, send: Send) -> None:
        """Sends bytes of a file. The response stays incomplete if the client disconnects or reads too slowly, which ends the connection."""
        await send({"type": "http.response.start", "status": head.status, "headers": head.headers})
        position, end = span
        gone = asyncio.ensure_future(wait_disconnected(receive))
        try:
            while position < end and not gone.done():
                part = await self._disk.run(partial(_read, file, position, min(_PART_BYTES, end - position)))
                async with self._ending.limit(self._timeout_s):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
                position += len(part)
        except TimeoutError:
            log.warning("request %s: its client reads the result too slowly", head.id)
        except OSError as exc:
            log.error("request %s: cannot read the result: %s", head.id, exc)  # noqa: TRY400 - as in `disk_errors`
        finally:
            gone.cancel()
        if position == end:
            await send({"type": "http.response.body", "body": b""})

    @contextlib.asynccontextmanager
    async def _stored(self, found: ResultFound) -> AsyncIterator[tuple[IO[bytes], int]]:
        file = await self._disk.run(lambda: _open(Path(found.path)))
        try:
            yield file, os.fstat(file.fileno()).st_size
        finally:
            file.close()

    @contextlib.asynccontextmanager
    async def _encoded(self, found: ResultFound, response_format: ResponseFormat) -> AsyncIterator[tuple[IO[bytes], int]]:
        file: IO[bytes]
        with tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES, dir=str(self._folder)) as file:

            def encode() -> int:
                with _open(Path(found.path)):  # raises Gone if it was removed
                    encode_stored_rows(Path(found.path), response_format, found.document.id, file, one_record=found.one_record)
                return file.tell()

            yield file, await self._disk.run(encode)


def _open(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except FileNotFoundError as exc:
        raise Gone("the result was removed just now, since it has expired; submit the job again") from exc


def _read(file: IO[bytes], position: int, size: int) -> bytes:
    file.seek(position)
    part = file.read(size)
    assert part  # results never shrink
    return part


def _etag(found: ResultFound, media_type: bytes) -> bytes:
    """Returns the strong entity tag of a representation. Another version may encode rows into other bytes."""
    document = found.document
    text = f"{found.number} {document.created_at} {document.ended_at} {media_type.decode('latin-1')} {base.__version__}"
    return f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'.encode()
