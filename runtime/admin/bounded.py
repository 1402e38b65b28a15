"""Bounds on what one request of the admin side may take: bytes of its body, and time."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 64 * 1024
"""Bodies name things, and carry none; a pex is the exception."""

REQUEST_S = 30.0
"""Workers have 5 s to answer; the rest is for a client that is slow to send or to read."""

_SCOPE = "pexdock.bounds"


class Bounds:
    """Of one request. An operation that needs others says so at its start."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.left_bytes = BODY_MAX_BYTES
        self._limit = limit

    @staticmethod
    def of(scope: Scope) -> Bounds:
        """Those of a request that came through `Bounded`."""
        bounds = scope[_SCOPE]
        assert isinstance(bounds, Bounds)
        return bounds

    def allow(self, seconds: float | None, body_bytes: int | None = None) -> None:
        """Give it so much time from now, None for as long as it takes, and so much of a body."""
        self._limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        if body_bytes is not None:
            self.left_bytes = body_bytes


class Bounded:
    """An application whose requests end.

    Args:
        app: answers an `HTTPException` that `receive` raises.
    """

    def __init__(self, app: ASGIApp, request_s: float = REQUEST_S) -> None:
        self._app = app
        self._request_s = request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry. A request that takes too long is cut off: the server closes its connection."""
        try:
            async with asyncio.timeout(self._request_s) as limit:
                bounds = Bounds(limit)
                await self._app({**scope, _SCOPE: bounds}, _counted(receive, bounds), send)
        except TimeoutError:
            log.warning("a client of the admin side took too long and is cut off: %s %s", scope.get("method"), scope.get("path"))


def _counted(receive: Receive, bounds: Bounds) -> Receive:
    async def counted() -> Message:
        message = await receive()
        bounds.left_bytes -= len(message.get("body", b""))
        if bounds.left_bytes < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {BODY_MAX_BYTES} bytes")
        return message

    return counted
