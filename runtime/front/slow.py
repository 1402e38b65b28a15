"""The other path through a connection: uvicorn's protocol and its ASGI tasks, mended where the fast path needs it to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.front.answer import Answer, Heads
from runtime.front.request import Request
from runtime.front.sweeper import IDLE_SWEEPS
from runtime.front.turns import Turns

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


_JOINED_MAX_BYTES = 64 * 1024
"""Up to it one copy is cheaper than a system call with two pieces."""


class Flow(FlowControl):
    """Whether a connection is read; with what was read already, and is read on before anything that comes later.

    Args:
        read_on: takes `unread`.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, read_on: Callable[[], None]) -> None:
        super().__init__(transport)
        self._loop = loop
        self._read_on = read_on
        self.unread = b""

    def resume_reading(self) -> None:
        """Not at once where something is unread: this may be called while something is parsed."""
        if self.unread:
            self._loop.call_soon(self._read_on)
        else:
            super().resume_reading()


class SlowPath(HttpToolsProtocol):
    """One connection of a client, as far as the ASGI application answers it.

    An ASGI task begins only when the fast path has nothing to answer before it; what waits for that is in uvicorn's own `pipeline`.

    Args:
        heads: shared by all connections.
    """

    def __init__(
        self,
        heads: Heads,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._heads = heads
        self._turns: Turns[Request, Answer] = Turns()  # of the fast path
        self._stalled = self._unsent = 0  # sweeps since something was taken, and the bytes that were to be taken at the last
        self._running: RequestResponseCycle | None = None
        self.flow: Flow  # of the fast path, which knows what may be read

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the task that runs, where uvicorn tells the latest only."""
        super().connection_lost(exc)
        self.flow.unread = b""
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _write(self, answer: Answer) -> None:
        if len(answer.body) <= _JOINED_MAX_BYTES:
            self.transport.write(self._heads.whole(answer))
        else:
            self.transport.writelines([self._heads.head(answer, close=False), answer.body])

    def _write_last(self, answer: Answer) -> None:
        self.transport.writelines([self._heads.head(answer, close=True), answer.body])
        self.transport.close()

    def _is_stalled(self, sweeps: int) -> bool:
        """Whether the client has taken nothing of what waits for it since so many sweeps; asked at each."""
        unsent = self.transport.get_write_buffer_size()
        self._stalled = self._stalled + 1 if unsent and unsent == self._unsent else 0
        self._unsent = unsent
        return self._stalled > max(sweeps, IDLE_SWEEPS)

    def _slow_is_open(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete  # type: ignore[redundant-expr]  # it begins as None

    def _go_slow(self, *, last: bool) -> None:
        """Gives the request to uvicorn's own protocol, from its head on. No other follows the `last`."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        self.server_state.default_headers = [(b"date", self._heads.date)]
        super().on_headers_complete()
        if last:
            self.cycle.keep_alive = False

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if self._turns:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, app))
        else:
            self._running = cycle
            super()._start_asgi_task(cycle, app)

    def _drop_incomplete(self) -> bool:
        """Forgets a request of the other path whose body will never be whole; False where that cannot be done without its connection."""
        if not self._slow_is_open() or not self.cycle.more_body:
            return True
        before = None
        if self.pipeline:  # it waits for others there, as the latest
            self.pipeline.popleft()
            before = self.pipeline[0][0] if self.pipeline else self._running
        elif self.cycle.response_started:
            return False
        else:  # its task waits for the body
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.cycle = before  # type: ignore[assignment]
        return True
