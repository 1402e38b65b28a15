"""Server-sent events of a job (WHATWG HTML, 9.2): one for each change, until the job has ended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

import msgspec

from runtime.front.app.asgi import Receive, Send, send_response, wait_disconnected
from runtime.front.app.jobs.ending import Ending
from runtime.front.requests.response import HttpResponse
from runtime.jobs.client import JobClient
from runtime.jobs.messages import FollowJob, JobChanged, JobFound

_HEARTBEAT_S = 15.0
"""Time in seconds after which a comment is sent, so that proxies do not take a job that reports nothing for a dead connection."""

_RETRY_MS = 2000
"""Time after which a client connects again if the stream has ended before the job."""

_Change = JobFound | JobChanged

_HEADERS = ((b"cache-control", b"no-store"), (b"x-accel-buffering", b"no"))


class EventStreams:
    """Sends the events of jobs.

    Args:
        runner: The job runner.
        timeout_s: Time limit for a client to read one event, in seconds.
        ending: The end of the front door, which ends all streams. Their clients connect again, and miss nothing.
    """

    def __init__(self, runner: JobClient, timeout_s: float, ending: Ending) -> None:
        self._runner = runner
        self._timeout_s = timeout_s
        self._ending = ending

    async def send(self, client: str, job_id: str, headers: Mapping[bytes, bytes], request_id: str, receive: Receive, send: Send) -> None:
        """Sends the events of a job after the one that the client has got last, as the runner remembers them.

        A job that has ended, and whose last event the client has got, is answered with 204, at which clients connect no more.

        Raises:
            PexdockError: The client has no such job, or the runner does not answer. Nothing was sent.
        """
        last = headers.get(b"last-event-id", b"")
        request = FollowJob(client, job_id, int(last) if re.fullmatch(rb"[0-9]{1,18}", last) else 0)
        async with aclosing(self._runner.follow(request)) as changes:
            first: _Change | None = await anext(changes)
            if first is not None and first.document.state.is_final:
                first = await anext(changes, None)
            if first is None:
                await send_response(send, HttpResponse(204, b"", request_id, b""))
                return
            sending = asyncio.ensure_future(self._send_changes(first, changes, request_id, send))
            others = [asyncio.ensure_future(each) for each in (wait_disconnected(receive), self._ending.wait())]
            try:
                await asyncio.wait([sending, *others], return_when=asyncio.FIRST_COMPLETED)
                ended = others[1].done() and not others[0].done()
            finally:
                for task in (sending, *others):
                    task.cancel()
                await asyncio.gather(sending, *others, return_exceptions=True)
            if ended:
                await send({"type": "http.response.body", "body": b""})

    async def _send_changes(self, first: _Change, changes: AsyncGenerator[_Change, None], request_id: str, send: Send) -> None:
        """Sends changes as the client reads them, and comments while there are none."""
        head = HttpResponse(200, b"text/event-stream", request_id, b"", _HEADERS)
        await send({"type": "http.response.start", "status": head.status, "headers": head.headers})
        await self._send_part(send, b"retry: %d\n\n" % _RETRY_MS + _event(first))
        change: _Change | None = first
        coming = asyncio.ensure_future(anext(changes, None))
        try:
            while change is not None:
                done, _ = await asyncio.wait([coming], timeout=_HEARTBEAT_S)
                if done:
                    change = coming.result()
                    coming = asyncio.ensure_future(anext(changes, None))
                await self._send_part(send, (b"" if change is None else _event(change)) if done else b": still connected\n\n")
        finally:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await send({"type": "http.response.body", "body": b""})

    async def _send_part(self, send: Send, part: bytes) -> None:
        async with asyncio.timeout(self._timeout_s):
            await send({"type": "http.response.body", "body": part, "more_body": True})


def _event(change: _Change) -> bytes:
    """Returns a change as an event, which is named after the state of the job. JSON has no line breaks.

    The job as it was when the client asked is none: its changes follow, also those before.
    """
    if isinstance(change, JobFound):
        return b""
    document = change.document
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (change.number, document.state.encode(), msgspec.json.encode(document))
