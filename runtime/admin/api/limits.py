"""Bounds on what one request of the admin side may take: bytes of its body, and time."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from base.errors import DeadlineExceeded
from runtime.admin.api.responses import problem_response

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 64 * 1024
"""Bodies name things, and carry none; a pex is the exception."""

REQUEST_S = 30.0
"""Workers have 5 s to answer; the rest is for a client that is slow to send or to read."""

_ANSWER_S = 1.0
"""To say that it took too long; whoever takes nothing is not told."""

_SCOPE = "pexdock.bounds"

HANG_UP = "pexdock.hang_up"
"""Where the scope of a request has what ends its connection at once."""


class RequestLimits:
    """Of one request. An operation that needs others says so at its start."""

    def __init__(self, limit: asyncio.Timeout) -> None:
        self.left_bytes = BODY_MAX_BYTES
        self._limit = limit

    @staticmethod
    def from_scope(scope: Scope) -> RequestLimits:
        """Those of a request that came through `Bounded`."""
        bounds = scope[_SCOPE]
        assert isinstance(bounds, RequestLimits)
        return bounds

    def extend(self, seconds: float | None, body_bytes: int | None = None) -> None:
        """Give it so much time from now, None for as long as it takes, and so much of a body."""
        self._limit.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        if body_bytes is not None:
            self.left_bytes = body_bytes


class RequestLimitsMiddleware:
    """An application whose requests end.

    Args:
        app: answers an `HTTPException` that `receive` raises.
    """

    def __init__(self, app: ASGIApp, request_s: float = REQUEST_S) -> None:
        self._app = app
        self._request_s = request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry. A request that takes too long is told so, if it was told nothing yet, and its connection ends."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            await send(message)
            begun = True

        try:
            async with asyncio.timeout(self._request_s) as limit:
                bounds = RequestLimits(limit)
                await self._app({**scope, _SCOPE: bounds}, _counted(receive, bounds), noted)
        except TimeoutError:
            log.warning("a client of the admin side took too long and is cut off: %s %r", scope.get("method"), scope.get("path"))
            await _cut_off(scope, receive, send, begun=begun)


async def _cut_off(scope: Scope, receive: Receive, send: Send, *, begun: bool) -> None:
    refusal = problem_response(DeadlineExceeded("the request did not come in time, or its answer was not taken"))
    refusal.headers["connection"] = "close"
    try:
        async with asyncio.timeout(_ANSWER_S):
            if not begun:
                await refusal(scope, receive, send)
                return
    except TimeoutError:
        pass
    scope.get(HANG_UP, _nothing)()


def _nothing() -> None:
    """What a server does that cannot hang up: it sees that the answer is not whole."""


def _counted(receive: Receive, bounds: RequestLimits) -> Receive:
    async def counted() -> Message:
        message = await receive()
        bounds.left_bytes -= len(message.get("body", b""))
        if bounds.left_bytes < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {BODY_MAX_BYTES} bytes")
        return message

    return counted
