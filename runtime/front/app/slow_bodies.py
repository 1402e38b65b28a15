"""Decodes large bodies on threads, so that the event loop answers other requests meanwhile."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

import pyarrow as pa

from base.errors import DeadlineExceeded, Full, PexdockError
from runtime.front.memory.body_buffer import BodyBuffer, closed_on_error
from runtime.front.memory.table_body import TableBody
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead, Selection
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.routing.route_table import RouteTable
from runtime.front.scheduling.admission import TIME_STEP_S, check_admission, decode_rows, submit_request

T = TypeVar("T")

_THREADS = 2
"""Bodies that are decoded at a time. Decoders hold Python's lock for most of their time, so more threads would only take more memory."""

_CALM_S = 1.0
"""Time in seconds without such a body until the memory that they took is given back. Before that, the next one uses it again."""

_NEVER = 2**31 - 1
"""Threshold of the oldest objects that is never reached."""


class SlowBodies:
    """Chooses releases for requests with large bodies, and decodes the bodies on threads.

    Args:
        routes: Routes of the table in force.
        max_bytes: Limit of the bodies that are decoded or wait for it. A single body may be larger.
        refusal: Returns the response to a request that is refused.
    """

    def __init__(self, routes: RouteTable, max_bytes: int, refusal: Callable[[PexdockError, str, Target], HttpResponse]) -> None:
        self._routes = routes
        self._max_bytes = max_bytes
        self._refusal = refusal
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()  # bounded by max_bytes
        self._running = 0
        self._thresholds = gc.get_threshold()
        self._threads = ThreadPoolExecutor(_THREADS, "decode")  # which starts a thread only when there is work for it
        self._release_timer: asyncio.TimerHandle | None = None
        self._table_threads = ThreadPoolExecutor(1, "decode-table")  # for seconds, in which other bodies do not wait

    @staticmethod
    def is_slow(head: RequestHead, body: bytes | BodyBuffer) -> bool:
        """Returns whether a body may take too long to be decoded in the event loop."""
        return isinstance(body, BodyBuffer) or not head.is_quick(body)

    def submit(
        self, head: RequestHead, request_id: str, body: bytes | BodyBuffer, on_response: Callable[[HttpResponse], None]
    ) -> DecodingRequest:
        """Submits a request of the fast path once its body is decoded, and takes ownership of a body buffer."""
        decoding = DecodingRequest()
        task = asyncio.get_running_loop().create_task(self._submit(decoding, head, request_id, body, on_response))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return decoding

    async def _submit(
        self,
        decoding: DecodingRequest,
        head: RequestHead,
        request_id: str,
        body: bytes | BodyBuffer,
        on_response: Callable[[HttpResponse], None],
    ) -> None:
        try:
            with closed_on_error(body):
                selected, rows = await self.decode(head, body, request_id)
                if not decoding.abandoned:
                    decoding.request = submit_request(selected, request_id, body, on_response, None, rows)
                elif isinstance(body, BodyBuffer):
                    body.close()
        except PexdockError as exc:
            if not decoding.abandoned:
                on_response(self._refusal(exc, request_id, head.target))

    async def decode(self, head: RequestHead, body: bytes | BodyBuffer, request_id: str, *, queued: bool = True) -> Selection:
        """Returns the head of the release that answers, with the rest of its time limit, and the rows of the body.

        Args:
            head: The request's head.
            body: The request's body.
            request_id: Id of the request.
            queued: Whether it is to be queued afterwards, so that a full queue refuses it before its body is decoded.

        Raises:
            PexdockError: The request is refused, or its time limit has passed. The body still belongs to the caller.
        """
        size = 0 if isinstance(body, TableBody) else body.size if isinstance(body, BodyBuffer) else len(body)
        if self._bytes and self._bytes + size > self._max_bytes:
            raise Full(f"{self._bytes} bytes of bodies are being decoded, limit {self._max_bytes}; try again later")
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._bytes += size
        try:
            async with asyncio.timeout(head.timeout_s):
                head, rows = await self._select_and_decode(head, body, request_id, queued=queued)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"the body was not decoded within {head.timeout_s:g} s") from exc
        finally:
            self._bytes -= size
        spent_s = (loop.time() - began_s) // TIME_STEP_S * TIME_STEP_S
        return Selection(head.with_less_time(spent_s) if spent_s else head, rows)

    async def _select_and_decode(self, head: RequestHead, body: bytes | BodyBuffer, request_id: str, *, queued: bool) -> Selection:
        rows = None
        while True:
            selector = head.selector
            if selector is not None or head.target.endpoint.release.retiring:
                found = None if selector is None else await self._run(body, partial(selector.read_body, body))
                head, rows = self._routes.select(head, body, found, is_read=True)
            if rows is None:
                if queued:
                    check_admission(head, 0 if isinstance(body, BodyBuffer) else len(body))
                rows = await self._run(body, partial(decode_rows, head, body, request_id))
            if not head.target.endpoint.release.retiring:
                return Selection(head, rows)

    async def _run(self, body: bytes | BodyBuffer, call: Callable[[], T]) -> T:
        """Runs a call that reads a body on a thread. Until no call is running any more, only new objects are collected.

        Decoders make millions of lists, and none in a cycle. To look at all of them would hold Python's lock for tenths of a second, again
        and again.
        """
        self._running += 1
        gc.set_threshold(*self._thresholds[:2], _NEVER)
        try:
            threads = self._table_threads if isinstance(body, TableBody) else self._threads
            return await asyncio.get_running_loop().run_in_executor(threads, call)
        finally:
            self._running -= 1
            if not self._running:
                gc.set_threshold(*self._thresholds)
                self._release_memory_later()

    def _release_memory_later(self) -> None:
        """Gives freed memory back once no more bodies come. By itself, Arrow keeps hundreds of megabytes of each thread."""
        if self._release_timer is not None:
            self._release_timer.cancel()
        release = pa.default_memory_pool().release_unused  # takes a millisecond, on a thread
        self._release_timer = asyncio.get_running_loop().call_later(_CALM_S, self._threads.submit, release)


class DecodingRequest:
    """A request of the fast path whose body is decoded first.

    Attributes:
        request: The request, once its body is decoded.
        abandoned: Whether its client has disconnected.
    """

    __slots__ = ("abandoned", "request")

    def __init__(self) -> None:
        self.request: InferenceRequest | None = None
        self.abandoned = False

    def abandon(self) -> None:
        """Ends the request without a response."""
        self.abandoned = True
        if self.request is not None:
            self.request.abandon()
