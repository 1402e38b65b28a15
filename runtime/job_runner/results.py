"""Writes the result of a job to its file."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from typing import BinaryIO, TypeVar

from runtime.front.requests.response import HttpResponse
from runtime.jobs.files import JobFiles

log = logging.getLogger(__name__)

T = TypeVar("T")

_RETRY_S = 1.0
"""Interval in seconds at which something is written again while the disk is full."""


async def store_result(files: JobFiles, number: int, response: HttpResponse, require_success: Callable[[], None]) -> None:
    """Stores the body of a response as the result of a job. It is on the disk when this returns.

    While the disk is full, this waits: otherwise, the work of hours would be lost.

    Raises:
        OSError: The result cannot be written.
        PexdockError: The handler has failed after its first part, as `require_success` says.
    """
    path = files.result_part(number)
    with await asyncio.to_thread(path.open, "wb", buffering=0) as file:
        if response.stream is None:
            await _write(file, response.body)
        else:
            while (piece := await response.stream.next()) is not None:
                await _write(file, piece)
            require_success()
    await _when_room(lambda: files.seal_result(number))


async def _write(file: BinaryIO, data: bytes | memoryview) -> None:
    left = memoryview(data)
    while left:
        left = left[await _when_room(lambda: file.write(left)) :]  # noqa: B023 - it is called in the same iteration


async def _when_room(call: Callable[[], T]) -> T:
    """Returns what a blocking call returns, once the disk has room for it."""
    is_logged = False
    while True:
        try:
            return await asyncio.to_thread(call)
        except OSError as exc:
            if exc.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            if not is_logged:
                log.error("results of jobs wait, since the disk of state_path is full: make room")  # noqa: TRY400 - it goes on
                is_logged = True
        await asyncio.sleep(_RETRY_S)
