"""Writes an access log line for each request that the fast path answers on one connection."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.utils import get_remote_addr

from runtime.front.requests.response import HttpResponse
from runtime.front.telemetry.access_log import AccessLog, StartedRequest
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST


class ConnectionAccessLog:
    """Tracks the open requests of one connection.

    Args:
        log: Gets the lines.
        transport: Transport of the connection.
    """

    def __init__(self, log: AccessLog, transport: asyncio.Transport) -> None:
        self._log = log
        self._client = get_remote_addr(transport)
        self._open: dict[str, StartedRequest] = {}

    def begin(self, request_id: str, path: bytes) -> None:
        """Records the start of a request that is complete."""
        self._open[request_id] = StartedRequest(self._client, "POST", path)

    def end(self, response: HttpResponse) -> None:
        """Logs a request that was answered."""
        begun = self._open.pop(response.id, None)
        if begun is not None:
            self._log.log_request(begun, response.id, response.status, len(response.body))

    def close(self) -> None:
        """Logs the requests that were not answered because the client disconnected."""
        for request_id, begun in self._open.items():
            self._log.log_request(begun, request_id, CLIENT_CLOSED_REQUEST, 0)
        self._open.clear()
