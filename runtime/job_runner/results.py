"""Writes the result of a job to its file, and waits while the disk is full."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from runtime.front.requests.response import HttpResponse
from runtime.jobs.files import JobFiles, require_room

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_S = 1.0
"""Interval in seconds at which something is written again while the disk is full."""


async def store_result(files: JobFiles, number: int, response: HttpResponse, require_success: Callable[[], None], left_bytes: int) -> None:
    """Stores the body of a response as the result of a job. It is on the disk when this returns, and nothing of it is if this raises.

    While the disk has no room for it, or would have less than `left_bytes` left, this waits: otherwise, the work of hours would be lost.
    A body that is complete takes no room until there is enough for all of it.

    Raises:
        OSError: The result cannot be written.
        PexdockError: The handler has failed after its first part, as `require_success` says.
    """
    path = files.result_part(number)
    try:
        with await when_room(lambda: path.open("wb", buffering=0)) as file:
            if response.stream is None:
                await _write(file, response.body, left_bytes)
            else:
                while (piece := await response.stream.next()) is not None:
                    await _write(file, piece, left_bytes)
                require_success()
        await when_room(lambda: files.seal_result(number))
    except BaseException:
        await asyncio.to_thread(files.remove_result_part, number)
        raise


async def _write(file: BinaryIO, data: bytes | memoryview, left_bytes: int) -> None:
    left = memoryview(data)

    def write() -> int:
        require_room(file.fileno(), left.nbytes, left_bytes)
        return file.write(left)

    while left:
        left = left[await when_room(write) :]


async def when_room(call: Callable[[], T]) -> T:
    """Returns what a blocking call returns, once the disk has room for it."""
    is_logged = False
    while True:
        try:
            return await asyncio.to_thread(call)
        except OSError as exc:
            if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if not is_logged:
                log.error("jobs wait, since the disk of state_path is full: make room, or cancel jobs")  # noqa: TRY400 - it goes on
                is_logged = True
        await asyncio.sleep(_RETRY_S)
