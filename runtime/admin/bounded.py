"""Bounds on what one request of the admin side may take: bytes of its body, and time."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = logging.getLogger(__name__)

BODY_MAX_BYTES = 64 * 1024
"""Bodies name things, and carry none."""

REQUEST_S = 30.0
"""Workers have 5 s to answer; the rest is for a client that is slow to send or to read."""


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
        left = BODY_MAX_BYTES

        async def bounded() -> Message:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {BODY_MAX_BYTES} bytes")
            return message

        try:
            async with asyncio.timeout(self._request_s):
                await self._app(scope, bounded, send)
        except TimeoutError:
            log.warning("a client of the admin side took longer than %g s and is cut off", self._request_s)
