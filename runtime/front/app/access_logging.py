"""Writes an access log line for each request that the ASGI application answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from runtime.front.app.asgi import Receive, Scope, Send
from runtime.front.routing.canonical_path import canonical_path
from runtime.front.telemetry.access_log import AccessLog, StartedRequest
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST


class AccessLogMiddleware:
    """ASGI middleware that logs each request.

    Args:
        app: Answers the requests.
        log: Gets the lines.
    """

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (the ASGI entry)."""
        begun = StartedRequest(scope.get("client"), scope["method"], canonical_path(scope["raw_path"]))
        request_id, status, size = "", CLIENT_CLOSED_REQUEST, 0

        async def counting_send(event: MutableMapping[str, Any]) -> None:
            nonlocal request_id, status, size
            if event["type"] == "http.response.start":
                status = event["status"]
                request_id = next((value.decode("latin-1") for name, value in event["headers"] if name == b"x-request-id"), "")
            size += len(event.get("body", b""))
            await send(event)

        try:
            await self._app(scope, receive, counting_send)
        finally:
            self._log.log_request(begun, request_id, status, size)
