"""The other path through a connection: uvicorn's protocol and its ASGI tasks, mended where the fast path needs it to be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from runtime.front.http.data_rate import A_SWEEP, MinimumDataRate
from runtime.front.http.pipeline import ResponsePipeline
from runtime.front.http.sweeper import IDLE_SWEEPS
from runtime.front.http.write_buffers import WriteBufferLimit
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.response import HttpResponse, ResponseSerializer

if TYPE_CHECKING:
    from uvicorn import Config
    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle
    from uvicorn.server import ServerState


_JOINED_MAX_BYTES = 64 * 1024
"""Up to it one copy is cheaper than a system call with two pieces."""


class ReadFlowControl(FlowControl):
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


class AsgiProtocol(HttpToolsProtocol):
    """One connection of a client, as far as the ASGI application answers it.

    An ASGI task begins only when the fast path has nothing to answer before it; what waits for that is in uvicorn's own `pipeline`.

    Args:
        heads, unread: shared by all connections.
    """

    def __init__(
        self,
        heads: ResponseSerializer,
        unread: WriteBufferLimit,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        super().__init__(config, server_state, app_state, loop)
        self._heads = heads
        self._responses: ResponsePipeline[InferenceRequest, HttpResponse] = ResponsePipeline()  # of the fast path
        self._messages = 0  # that have begun
        self._begun = False  # a request is there that is not whole
        self._in_head = False  # nor is its head
        self._head_sweeps = 0  # since it began
        self._still = self._heard = 0  # sweeps since something came, and bytes that came since the last
        self._unsent = 0  # bytes that were to be taken at the last sweep
        self._swept = 0  # the message that was on its way then
        self._sending, self._taking = MinimumDataRate(), MinimumDataRate()
        self._unread = unread
        self._running: RequestResponseCycle | None = None
        self.flow: ReadFlowControl  # of the fast path, which knows what may be read

    def connection_lost(self, exc: Exception | None) -> None:
        """Tells the task that runs, where uvicorn tells the latest only."""
        super().connection_lost(exc)
        self.flow.unread = b""
        self._unread.forget(self)
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()

    def _write(self, answer: HttpResponse) -> None:
        if len(answer.body) <= _JOINED_MAX_BYTES:
            self.transport.write(self._heads.whole(answer))
        else:
            self.transport.writelines([self._heads.head(answer, close=False), answer.body])
        if self.flow.write_paused:
            self._unread.holds(self, self.transport.get_write_buffer_size())

    def _write_last(self, answer: HttpResponse) -> None:
        self.transport.writelines([self._heads.head(answer, close=True), answer.body])
        self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._unread.holds(self, self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """The client has taken most of what waited for it."""
        super().resume_writing()
        self._taking.reset()
        self._unread.forget(self)

    def give_up(self) -> None:
        """Hangs up, with all that waits."""
        self.transport.abort()

    def heard(self, size: int) -> None:
        """So much of a body came past the parser."""
        self._still, self._heard = 0, self._heard + size

    def sweep(self, arrival_sweeps: int) -> None:
        """Ends if too little has come for too long, and the client is whom we wait for; or if it takes too little of what waits for it."""
        heard, self._heard = self._heard, 0
        if self._takes_too_little(max(arrival_sweeps, IDLE_SWEEPS)):
            self.transport.abort()
        elif self._responses or self.flow.read_paused or (self._slow_is_open() and not self.cycle.more_body):
            self._still = 0
            self._sending.reset()
        elif self._begun or not self._messages:
            self._head_sweeps += self._in_head  # however fast it comes
            if self._sends_too_little(heard, arrival_sweeps) or self._head_sweeps > arrival_sweeps:
                self.transport.close()
        elif self._still >= IDLE_SWEEPS:
            self.transport.close()
        else:
            self._still += 1

    def _sends_too_little(self, heard: int, sweeps: int) -> bool:
        if self._swept != self._messages:
            self._swept = self._messages
            self._sending.reset()
        return self._sending.is_over(heard, sweeps)

    def _takes_too_little(self, sweeps: int) -> bool:
        unsent = self.transport.get_write_buffer_size()
        taken, self._unsent = self._unsent - unsent, unsent
        if not unsent:
            self._taking.reset()
            return False
        if taken and not self.flow.write_paused:  # what is written meanwhile hides how much it was
            taken = A_SWEEP
        return self._taking.is_over(max(0, taken), sweeps)

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
        if self._responses:
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
