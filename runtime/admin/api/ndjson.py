"""Responses that stream a line of JSON for each event, until the client disconnects, falls behind, or the supervisor exits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from runtime.admin.api.limits import RequestLimits
from runtime.admin.api.openapi import NDJSON


class NdjsonStream(Response):
    """A response of JSON lines without an end.

    Args:
        lines: Yields documents in groups; each group is sent at once.
        lost: Set once the client is too slow; it is disconnected, and can tell because the response is incomplete.
        closed: Called when the stream has ended, for any reason.
    """

    media_type = NDJSON

    def __init__(
        self,
        lines: AsyncIterator[Sequence[msgspec.Struct]],
        lost: asyncio.Event | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._lines = lines
        self._lost = lost or asyncio.Event()
        self._closed = closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the stream, without a time limit."""
        RequestLimits.from_scope(scope).extend(None)
        tasks = [asyncio.ensure_future(work) for work in (self._send(send), _wait_disconnected(receive), self._lost.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._closed()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for group in self._lines:
            body = b"".join(msgspec.json.encode(document) + b"\n" for document in group)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _wait_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
