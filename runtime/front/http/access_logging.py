"""Writes an access log line for each request, on the fast path and through ASGI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from runtime.front.app.asgi import Receive, Scope, Send
from runtime.front.http.connection import HttpConnection
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import RequestHead
from runtime.front.telemetry.access_log import AccessLog, StartedRequest
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST


class AccessLogMiddleware:
    """The ASGI application, with a line for each of its requests."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]], log: AccessLog) -> None:
        self._app = app
        self._log = log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        begun = StartedRequest(scope.get("client"), scope["method"], scope["raw_path"])
        request_id, status, size = "", CLIENT_CLOSED_REQUEST, 0

        async def counted(event: MutableMapping[str, Any]) -> None:
            nonlocal request_id, status, size
            if event["type"] == "http.response.start":
                status = event["status"]
                request_id = next((value.decode("latin-1") for name, value in event["headers"] if name == b"x-request-id"), "")
            size += len(event.get("body", b""))
            await send(event)

        try:
            await self._app(scope, receive, counted)
        finally:
            self._log.log_request(begun, request_id, status, size)


class LoggedHttpConnection(HttpConnection):
    """One whose requests on the fast path have a line, too.

    Args:
        log: takes the lines.
    """

    def __init__(self, log: AccessLog, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._log = log
        self._unanswered: dict[str, StartedRequest] = {}

    def connection_lost(self, exc: Exception | None) -> None:
        """As of any connection."""
        super().connection_lost(exc)
        for request_id, begun in self._unanswered.items():
            self._log.log_request(begun, request_id, CLIENT_CLOSED_REQUEST, 0)
        self._unanswered.clear()

    def _name(self, asked: RequestHead) -> str:
        request_id = super()._name(asked)
        self._unanswered[request_id] = StartedRequest(self.client, "POST", asked.target.path)
        return request_id

    def _answered(self, answer: HttpResponse) -> None:
        super()._answered(answer)
        begun = self._unanswered.pop(answer.id, None)
        if begun is not None:
            self._log.log_request(begun, answer.id, answer.status, len(answer.body))
