"""Answers that go on: a line of JSON for each thing that happens, until the client leaves, is too slow, or all ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec
from fastapi import Response
from starlette.types import Receive, Scope, Send

from runtime.admin.api.limits import RequestLimits
from runtime.admin.api.openapi import NDJSON


class NdjsonStream(Response):
    """Sends what `lines` gives as long as the client reads it.

    Args:
        lines: documents in portions; each portion is sent at once.
        lost: the client is too slow, and is hung up on. It can tell: the answer has no end.
        closed: called when it is over, however.
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
        """The ASGI entry. It takes no time that is bounded."""
        RequestLimits.from_scope(scope).extend(None)
        tasks = [asyncio.ensure_future(work) for work in (self._send(send), _gone(receive), self._lost.wait())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            self._closed()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _send(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        async for portion in self._lines:
            body = b"".join(msgspec.json.encode(document) + b"\n" for document in portion)
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
