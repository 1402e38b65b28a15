"""Asks the job runner over its Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from typing import Any, TypeVar

import msgspec

from base.errors import PeerError, Unavailable
from runtime.jobs.messages import LINE_MAX_BYTES, FollowJob, JobChanged, JobFound, JobReply, JobRequest, Refused, decode_reply, encode_line

T = TypeVar("T", bound=JobReply)

_ATTEMPTS = 2
"""Every request may be sent again if the runner exits before it has replied: it then finds what it has done before."""

_RETRY_AFTER_S = 2


class JobClient:
    """A client of the job runner. While the runner restarts, requests wait.

    Args:
        socket_path: Path of the runner's socket.
        timeout_s: Time limit of a request, in seconds.
        limit: Applies the time limit to a block.
    """

    def __init__(
        self, socket_path: str, timeout_s: float, limit: Callable[[float], AbstractAsyncContextManager[object]] = asyncio.timeout
    ) -> None:
        self._socket_path = socket_path
        self._timeout_s = timeout_s
        self._limit = limit

    async def ask(self, request: JobRequest, kind: type[T]) -> T:
        """Returns the reply to a request.

        Raises:
            PexdockError: The request was refused.
            Unavailable: The runner does not answer.
        """
        for _ in range(_ATTEMPTS):
            async with aclosing(self._replies(request, kind)) as replies:
                async for reply in replies:
                    found: T = reply
                    return found
        raise Unavailable("the job runner has exited before it replied; try again", retry_after_s=_RETRY_AFTER_S)

    async def follow(self, request: FollowJob) -> AsyncGenerator[JobFound | JobChanged, None]:
        """Yields the job as it is, and then each change, until the job has ended or the runner exits. Only the first has a time limit.

        Raises:
            PexdockError: As `ask`.
        """
        async with aclosing(self._replies(request, JobFound | JobChanged)) as replies:
            async for reply in replies:
                yield reply

    async def _replies(self, request: JobRequest, kind: Any) -> AsyncGenerator[Any, None]:
        """Yields the replies to a request, which are of one kind, until the runner has sent all, or exits."""
        async with self._connected() as (reader, writer):
            try:
                async with self._limit(self._timeout_s):
                    writer.write(encode_line(request))
                    await writer.drain()
                    line = await reader.readline()
                while line.endswith(b"\n"):
                    reply = decode_reply(line)
                    if isinstance(reply, Refused):
                        raise reply.to_error()
                    if not isinstance(reply, kind):
                        raise PeerError(f"the job runner has sent {type(reply).__name__} in reply to {type(request).__name__}")
                    yield reply
                    line = await reader.readline()
            except TimeoutError as exc:
                raise Unavailable("the job runner has not replied in time; try again") from exc
            except OSError:
                return
            except (msgspec.MsgspecError, ValueError) as exc:
                raise PeerError(f"the job runner has sent an invalid reply: {exc}") from exc

    @asynccontextmanager
    async def _connected(self) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
        try:
            reader, writer = await asyncio.open_unix_connection(self._socket_path, limit=LINE_MAX_BYTES)
        except OSError as exc:
            reason = "too many requests wait for the job runner" if isinstance(exc, BlockingIOError) else "the job runner cannot be reached"
            raise Unavailable(f"{reason}; try again", retry_after_s=_RETRY_AFTER_S) from exc
        try:
            yield reader, writer
        finally:
            writer.close()
