"""Limits of one request of the admin API: the size of its body, and its time."""

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
"""JSON bodies are small; only an uploaded pex is larger, and has a limit of its own."""

REQUEST_S = 30.0
"""Workers have 5 s to answer; the rest is for a client that sends or reads slowly."""

_ERROR_RESPONSE_S = 1.0
"""Time to send the response to a timeout; a client that does not read it is disconnected without one."""

_SCOPE = "pexdock.limits"

HANG_UP = "pexdock.hang_up"
"""Key in the ASGI scope of a function that closes the connection at once."""


class RequestLimits:
    """The limits of one request. An operation that needs others extends them when it begins."""

    def __init__(self, timeout: asyncio.Timeout) -> None:
        self.left_bytes = BODY_MAX_BYTES
        self._timeout = timeout

    @staticmethod
    def from_scope(scope: Scope) -> RequestLimits:
        """Returns the limits of a request that passed through `RequestLimitsMiddleware`."""
        limits = scope[_SCOPE]
        assert isinstance(limits, RequestLimits)
        return limits

    def extend(self, seconds: float | None, body_bytes: int | None = None) -> None:
        """Sets the remaining seconds (None for no limit), and optionally the remaining bytes of the body."""
        self._timeout.reschedule(None if seconds is None else asyncio.get_running_loop().time() + seconds)
        if body_bytes is not None:
            self.left_bytes = body_bytes


class RequestLimitsMiddleware:
    """ASGI middleware that limits the time and the body of each request.

    Args:
        app: Application that turns an `HTTPException` raised by `receive` into a response.
        request_s: Time limit of a request in seconds.
    """

    def __init__(self, app: ASGIApp, request_s: float = REQUEST_S) -> None:
        self._app = app
        self._request_s = request_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the application. A timeout is answered with a 504, unless the response has begun, and closes the connection."""
        begun = False

        async def send_and_note(message: Message) -> None:
            nonlocal begun
            await send(message)
            begun = True

        try:
            async with asyncio.timeout(self._request_s) as timeout:
                limits = RequestLimits(timeout)
                await self._app({**scope, _SCOPE: limits}, _limited(receive, limits), send_and_note)
        except TimeoutError:
            log.warning("admin API: disconnecting a client after a timeout: %s %r", scope.get("method"), scope.get("path"))
            await _cut_off(scope, receive, send, begun=begun)


async def _cut_off(scope: Scope, receive: Receive, send: Send, *, begun: bool) -> None:
    response = problem_response(DeadlineExceeded("the client did not send its request or read the response in time"))
    response.headers["connection"] = "close"
    try:
        async with asyncio.timeout(_ERROR_RESPONSE_S):
            if not begun:
                await response(scope, receive, send)
                return
    except TimeoutError:
        pass
    scope.get(HANG_UP, _do_nothing)()


def _do_nothing() -> None:
    """Replaces HANG_UP on servers without it, which detect by themselves that the response is incomplete."""


def _limited(receive: Receive, limits: RequestLimits) -> Receive:
    async def receive_limited() -> Message:
        message = await receive()
        limits.left_bytes -= len(message.get("body", b""))
        if limits.left_bytes < 0:
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"request body too large: the limit is {BODY_MAX_BYTES} bytes")
        return message

    return receive_limited
