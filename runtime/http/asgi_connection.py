"""A connection whose requests an ASGI application answers: uvicorn's protocol, corrected for front doors and the admin server.

uvicorn knows the latest request of a connection (`cycle`). A client may send several without waiting for responses; then the request that
is being answered is an earlier one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.http.response_framing import ResponseFraming

if TYPE_CHECKING:
    import asyncio

    from uvicorn import Config
    from uvicorn._types import ASGI3Application, ASGIReceiveCallable, ASGISendCallable, Scope
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


class AsgiConnection(HttpToolsProtocol):
    """Tracks which request the application answers now, beside the latest one.

    Attributes:
        running: The request that the application was given last; None before the first.
    """

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self.running: RequestResponseCycle | None = None

    @property
    def is_open(self) -> bool:
        """Returns True while a request is unanswered or incomplete."""
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # it begins as None

    def connection_lost(self, exc: Exception | None) -> None:
        """Notifies the running request, while uvicorn notifies only the latest, and drops the requests that wait."""
        super().connection_lost(exc)
        self.pipeline.clear()
        self.disconnect_running()

    def disconnect_running(self) -> None:
        """Notifies the application that the client of the running request is gone, unless the response is complete."""
        if self.running is not None and not self.running.response_complete:
            self.running.disconnected = True
            self.running.message_event.set()

    def drop_latest_waiting(self) -> None:
        """Forgets the latest request, which waits behind others in `pipeline`: its body will never be complete."""
        self.pipeline.popleft()
        self.cycle = self.pipeline[0][0] if self.pipeline else self.running  # type: ignore[assignment]  # it begins as None

    def on_headers_complete(self) -> None:
        """Gives a request whose head is complete to the application. A client of HTTP/1.0 gets no 100 (RFC 9110, 10.1.1)."""
        if self.parser.get_http_version() == "1.0":
            self.expect_100_continue = False
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Handles the end of a response. Stops uvicorn's timer for the next request, since each server here has time limits of its own."""
        super().on_response_complete()
        self._unset_keepalive_if_required()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self.running = cycle

        async def framed(scope: Scope, receive: ASGIReceiveCallable, _: ASGISendCallable) -> None:
            await app(scope, receive, ResponseFraming(cycle).send)
            if cycle.response_started and not cycle.response_complete:  # it was cut, and the application has logged why
                cycle.disconnected = True  # else uvicorn logs an error that names no request
                self.transport.close()

        super()._start_asgi_task(cycle, framed)
