"""The ASGI application of a front door: predictions by hand, and all that people read through FastAPI."""

from __future__ import annotations

import asyncio
from random import getrandbits
from typing import Any

from base.errors import NotFound, PexdockError, TooLarge
from base.ipc.control import Table
from base.raw import request_frame
from runtime.front import pages
from runtime.front.answer import Answer
from runtime.front.asgi import Receive, Scope, Send, context_of, send_answer, send_stream
from runtime.front.deadlines import Deadlines
from runtime.front.dispatch import Dispatch, Endpoint
from runtime.front.link import Link
from runtime.front.measuring import now_s
from runtime.front.problems import method_not_allowed, problem
from runtime.front.replies import Replies
from runtime.front.request import Request
from runtime.front.router import Match, Router
from runtime.front.rows import Rows, decode


class Disconnected(Exception):
    """The client hung up before its body was whole."""


class FrontDoor:
    """What is served, and how a request for it is answered.

    Args:
        body_max_bytes: a larger body is refused with 413.
        deadlines: of all requests; shared with the dispatch.
    """

    def __init__(self, dispatch: Dispatch, deadlines: Deadlines, body_max_bytes: int) -> None:
        self._dispatch = dispatch
        self._deadlines = deadlines
        self._body_max_bytes = body_max_bytes
        self._router: Router[Endpoint] = Router()
        self._settled = False
        self._pages = pages.make(self)

    @property
    def endpoints(self) -> list[Endpoint]:
        """All endpoints in force."""
        return [endpoint for release in self._dispatch.releases for endpoint in release.endpoints]

    def missing(self) -> list[str] | None:
        """The models that should serve and do not; None while the start is not over."""
        if not self._settled:
            return None
        return [release.words.model for release in self._dispatch.releases if not release.up]

    def prepare(self, table: Table) -> list[Link]:
        """Connects to what a table adds, before it is in force: no request meets a worker that has not answered yet."""
        return self._dispatch.prepare(table.routes)

    def apply(self, table: Table) -> list[Link]:
        """Puts a routing table in force, at once and whole. Returns the new links, not yet welcomed."""
        links = self._dispatch.apply(table.routes)
        router: Router[Endpoint] = Router()
        for endpoint in self.endpoints:
            router.add(endpoint.words.path, endpoint)
        self._router, self._settled = router, table.settled
        self._pages.openapi_schema = None
        return links

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        # Probes first: a model whose path is one parameter must not hide whether we live.
        if scope["type"] != "http" or scope["path"] in pages.PATHS:
            await self._pages(scope, receive, send)
            return
        request_id = f"{getrandbits(128):032x}"
        match: Match[Endpoint] | None = None
        try:
            match = self._router.match(scope["raw_path"])
            if match is None:
                raise NotFound("no endpoint has this path; GET /docs lists those that are served")
            answer = await self._predict(match, scope, receive, send, request_id)
        except PexdockError as exc:
            answer = problem(exc, request_id)
            if match is not None and match.target.measures is not None:
                match.target.measures.answered(answer.status)
        except Disconnected:
            return
        if answer is not None:
            await send_answer(send, answer)

    async def _predict(self, match: Match[Endpoint], scope: Scope, receive: Receive, send: Send, request_id: str) -> Answer | None:
        """The answer; None where it was sent already."""
        if scope["method"] != "POST":
            return method_not_allowed(request_id)
        endpoint = match.target
        headers: dict[bytes, bytes] = dict(scope["headers"])
        endpoint.release.check_up()
        body = await self._body(headers, receive)
        began_s = 0.0 if endpoint.measures is None else now_s()
        content_type = headers.get(b"content-type", b"").decode("latin-1")
        rows = Rows(request_frame(body), "") if endpoint.words.raw else decode(endpoint.decoder, content_type, body)
        accept = headers.get(b"accept", b"").decode("latin-1")
        context = context_of(endpoint, scope, headers, request_id) if endpoint.words.alone else None
        answered: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        request = Request(endpoint, match.parameters, rows, accept, request_id, answered.set_result, context, began_s)
        if rows.count:
            endpoint.submit(request)
        elif endpoint.words.streams:
            request.end()
        else:
            request.succeed(Replies.none(endpoint.output_schema), 0)  # no handler is asked about nothing
        try:
            if context is not None:
                await self._send_alone(request, answered, receive, send)
                return None
            return await answered
        except asyncio.CancelledError:
            endpoint.abandon(request)
            raise

    async def _send_alone(self, request: Request, answered: asyncio.Future[Answer], receive: Receive, send: Send) -> None:
        """Answers a request that has a worker's handler for itself, which therefore learns when its client hangs up."""
        gone: asyncio.Future[Any] = asyncio.ensure_future(receive())  # the body has been read, so nothing can come but the end
        try:
            await asyncio.wait([answered, gone], return_when=asyncio.FIRST_COMPLETED)
            if not answered.done():
                request.endpoint.abandon(request)
                return
            gone.add_done_callback(lambda _: request.endpoint.abandon(request))
            answer = answered.result()
            if answer.stream is None:
                await send_answer(send, answer)
            elif not await send_stream(send, answer, self._deadlines.timeout_s):
                request.endpoint.abandon(request)
        finally:
            gone.cancel()

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._body_max_bytes:
            raise self._too_large()
        parts, size = [], 0
        while True:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise Disconnected
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self._body_max_bytes:
                raise self._too_large()
            if not event.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body may have {self._body_max_bytes} bytes; send fewer rows at once")
