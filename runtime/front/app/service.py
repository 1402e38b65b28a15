"""The ASGI application of a front door: predictions by hand, and all that people read through FastAPI."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import count
from random import getrandbits
from typing import Any
from urllib.parse import unquote

from polars.exceptions import PanicException

from base.endpoint.context import RequestContext
from base.errors import NotFound, PexdockError, TooLarge, Unauthorized, UnsupportedMedia
from base.ipc.control import ReleaseSpec, RoutingTable
from runtime.front.app import health
from runtime.front.app.asgi import Receive, Scope, Send, context_of, send_answer, send_stream
from runtime.front.app.asgi_app import _NO_KEY, Disconnected
from runtime.front.app.head_cache import CachedHead
from runtime.front.codecs.decoder import Rows
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.memory.body_buffer import MIN_BYTES, BodyBuffer, closing_unless_done
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.problems import method_not_allowed, problem
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import RequestHead, Target
from runtime.front.routing.mirroring import MirrorStatsByRelease, RequestMirror
from runtime.front.routing.route_table import RouteTable
from runtime.front.routing.traffic_split import Selection
from runtime.front.scheduling.dispatcher import Dispatcher
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.scheduling.parameter_check import check
from runtime.front.telemetry.metrics import now_s
from runtime.front.workers.link import WorkerLink
from runtime.http.api_keys import ApiKeys

log = logging.getLogger(__name__)

_KNOWN_MAX, _KNOWN_MAX_BYTES = 1024, 1024
"""Heads that are known without parsing them again. Where each is another they cost a request a tenth of what parsing does."""


class FrontDoor:
    """What is served, and how a request for it is answered.

    Args:
        body_max_bytes: a larger body is refused with 413.
        deadlines: of all requests; shared with the dispatch.
        comparisons: of copied requests; None where nobody listens, and then none are copied.

    Attributes:
        body_max_bytes: as given.
        ids: of requests, without end.
    """

    def __init__(
        self, dispatch: Dispatchers, deadlines: Deadlines, body_max_bytes: int, comparisons: MirrorStatsByRelease | None = None
    ) -> None:
        self._dispatch = dispatch
        self._deadlines = deadlines
        self.body_max_bytes = body_max_bytes
        self._comparisons = comparisons
        self._copying: dict[Dispatcher, RequestMirror] = {}
        self._paths = RouteTable()
        self._known: dict[bytes, CachedHead] = {}
        # Unique to this process by their first half, and in it by the second; a random number for each would cost more than routing does.
        self.ids: Iterator[str] = map(f"{getrandbits(64):016x}%016x".__mod__, count())
        self._settled = self._withdrawn = False
        self._keys: ApiKeys | None = None
        self._pages = health.make(self)

    @property
    def documented(self) -> list[ReleaseSpec]:
        """See `Paths.documented`."""
        return self._paths.documented()

    def missing(self) -> list[str] | None:
        """The models that should serve and do not; None while the start is not over, and once the end has begun."""
        if not self._settled or self._withdrawn:
            return None
        return self._paths.missing()

    def prepare(self, table: RoutingTable) -> list[WorkerLink]:
        """Connects to what a table adds, before it is in force: no request meets a worker that has not answered yet."""
        return self._dispatch.prepare(table.routes)

    def apply(self, table: RoutingTable) -> list[WorkerLink]:
        """Puts a routing table in force, at once and whole. Returns the new links, not yet welcomed."""
        copied_to = {
            each.mirror.release_id
            for each in table.splits.values()
            if each.mirror is not None and each.mirror.release_id not in each.weights
        }
        links = self._dispatch.apply(table.routes, copied_to, set().union(*(each.opt_in_only for each in table.splits.values())))
        self._paths.apply(table, self._dispatch.releases, self._copied_to(table))
        self._known, self._settled = {}, table.startup_complete
        self._pages.openapi_schema = None
        return links

    def withdraw(self) -> None:
        """From now on readiness is false, and nothing else is another."""
        self._withdrawn = True

    def admit_only(self, keys: ApiKeys) -> None:
        """From now on only requests that show one of these keys, and probes, are answered with more than a refusal."""
        self._keys = keys
        self._known = {}  # heads that showed a key which is none any more

    @property
    def asks_for_keys(self) -> bool:
        """Whether a request must show a key."""
        return self._keys is not None

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers may ask for more than health."""
        return self._keys is None or self._keys.admits(headers)

    def route(self, raw_path: bytes) -> Target | None:
        """Where a path leads, as it came over the wire; None where no endpoint has such a path.

        Raises:
            Misfit, TooLarge: a parameter's value is none that it may have.
        """
        return self._paths.route(raw_path)

    def request_head(self, target: Target, headers: Mapping[bytes, bytes], content_type: str, accept: str) -> RequestHead:
        """See `Paths.asked`."""
        return self._paths.request_head(target, headers, content_type, accept)

    def known(self, head: bytes) -> CachedHead | None:
        """What a head says that was learned before, down to its empty line."""
        return self._known.get(head)

    def learn(self, head: bytes, known: CachedHead) -> None:
        """Most clients send the same head again and again. It means the same until the routing table changes, to the byte."""
        if len(head) <= _KNOWN_MAX_BYTES:
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[head] = known

    def plain_target(self, url: bytes) -> Target | None:
        """Where a URL leads, if requests for it share batches and nothing else need be known of it; the ASGI entry answers all others."""
        target = self._paths.known(url)
        if target is None:
            if not url.startswith(b"/") or url.startswith(b"//") or b"?" in url or b"#" in url or unquote(url) in health.PATHS:
                return None
            try:
                target = self.route(url)
            except PexdockError:
                return None
        if target is None or not target.admitted or target.endpoint.spec.unbatched:
            return None
        return target if target.split_route is None or target.split_route.plain else None

    def body_buffer(self, asked: RequestHead, body_bytes: int) -> BodyBuffer | None:
        """Memory for a body that is still to come, where it is a large one of Arrow.

        Raises:
            Full: there is none left. Nothing was taken.
        """
        return BodyBuffer.begin(body_bytes, asked.target.endpoint.dispatcher.budget) if body_bytes >= MIN_BYTES and asked.is_arrow else None

    def request(
        self,
        asked: RequestHead,
        request_id: str,
        body: bytes | BodyBuffer,
        answer: Callable[[HttpResponse], None],
        context: RequestContext | None = None,
        rows: Rows | None = None,
    ) -> InferenceRequest:
        """The request of a whole body, not yet started. Both ways of reading HTTP come together here. An arrival is the request's then.

        Args:
            asked: what its head says.
            request_id: its own.
            body: whole.
            answer: called with the answer, perhaps by `start`.
            context: what its handler may know of it beside its rows, where it asks for that.
            rows: of the body, where they were read already.

        Raises:
            PexdockError: it is refused (see `refusal`).
        """
        if asked.selector is not None:
            asked, rows = self._drawn(asked, body)
        elif asked.target.endpoint.dispatcher.retiring:
            asked, rows = self._paths.moved(asked, None, body)
        endpoint = asked.target.endpoint
        endpoint.dispatcher.check_up()
        size_bytes = 0 if isinstance(body, BodyBuffer) else len(body)
        endpoint.check_room(asked, size_bytes)
        began_s = 0.0 if endpoint.metrics is None else now_s()
        if rows is None:
            rows = self._read(asked, body, request_id)
        fork = asked.split_route
        if fork is not None and rows.count and fork.shares.copy_is_due():
            return fork.copy(asked, rows, body, request_id, answer)
        request = InferenceRequest(asked, rows, request_id, answer, context, began_s)
        request.size_bytes = size_bytes
        return request

    @staticmethod
    def _read(asked: RequestHead, body: bytes | BodyBuffer, request_id: str) -> Rows:
        try:
            return asked.rows(body)
        except PexdockError:
            raise
        except (Exception, PanicException) as exc:  # what decodes is made by others; a body that makes it fail ends its own request only
            # Where, and not what: the words of the error may be those of the body.
            place = "".join(traceback.format_tb(exc.__traceback__))
            log.error("the body of request %s cannot be decoded: %s at\n%s", request_id, type(exc).__name__, place)  # noqa: TRY400
            raise PexdockError("the front door failed; its log tells why, at this id") from exc

    def _drawn(self, asked: RequestHead, body: bytes | BodyBuffer) -> Selection:
        """The release is chosen that answers, under the table in force."""
        assert asked.selector is not None
        drawn = asked.selector.draw(body)
        if drawn.asked.target.endpoint.dispatcher.retiring:
            return self._paths.moved(asked, asked.selector, body)
        return drawn

    def _copied_to(self, table: RoutingTable) -> dict[str, RequestMirror]:
        """The releases that get copies, by id. Those that did before keep count of what is on its way."""
        copied = {sharing.mirror.release_id for sharing in table.splits.values() if sharing.mirror is not None}
        releases = [release for release in self._dispatch.releases if release.id in copied] if self._comparisons is not None else []
        self._copying = {release: self._copying.get(release) or self._make_copying(release) for release in releases}
        return {release.id: copying for release, copying in self._copying.items()}

    def _make_copying(self, release: Dispatcher) -> RequestMirror:
        assert self._comparisons is not None
        return RequestMirror(release, self._comparisons.of(release.spec.model, release.id))

    @staticmethod
    def start(request: InferenceRequest) -> None:
        """Has the request answered, perhaps before this returns."""
        endpoint = request.endpoint
        if request.row_count:
            endpoint.submit(request)
        elif endpoint.spec.streams:
            request.end()
        else:
            request.succeed(ReplyEncoder.none(endpoint.output_schema), 0)  # no handler is asked about nothing

    @staticmethod
    def refusal(error: PexdockError, request_id: str, target: Target | None) -> HttpResponse:
        """The answer to what never was a request; `target` is where its path leads."""
        answer = problem(error, request_id)
        if target is not None and target.endpoint.metrics is not None:
            target.endpoint.metrics.answered(answer.status)
        return answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI entry."""
        if scope["path"] not in health.OPEN and not self.admits(scope["headers"]):
            await send_answer(send, self.refusal(Unauthorized(_NO_KEY), next(self.ids), None))
            return
        # Probes first: a model whose path is one parameter must not hide whether we live.
        if scope["type"] != "http" or scope["path"] in health.PATHS:
            await self._pages(scope, receive, send)
            return
        request_id = next(self.ids)
        target: Target | None = None
        try:
            target = self.route(scope["raw_path"])
            if target is None:
                raise NotFound("no endpoint has this path; GET /docs lists those that are served")
            await self._predict(target, scope, receive, send, request_id)
        except PexdockError as exc:
            await send_answer(send, self.refusal(exc, request_id, target))
        except Disconnected:
            return

    async def _predict(self, target: Target, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        if scope["method"] != "POST":
            await send_answer(send, method_not_allowed(request_id))
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        content_type, accept = (headers.get(name, b"").decode("latin-1") for name in (b"content-type", b"accept"))
        asked, rows = Selection(self._paths.request_head(target, headers, content_type, accept), None)
        if asked.selector is None:
            asked.target.endpoint.dispatcher.check_up()
        coding = headers.get(b"content-encoding", b"identity").lower()
        if coding != b"identity" and not asked.target.endpoint.spec.raw:
            raise UnsupportedMedia(f"bodies are taken as they are, and not in {coding.decode('latin-1')!r}; send it uncompressed")
        body = await self._body(asked, headers, receive)
        answered: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        with closing_unless_done(body):
            if asked.selector is not None:
                asked, rows = self._drawn(asked, body)
            elif asked.target.endpoint.dispatcher.retiring:
                asked, rows = self._paths.moved(asked, None, body)
            endpoint = asked.target.endpoint
            spent_s = await check(asked)
            context = context_of(endpoint, scope, headers, request_id) if endpoint.spec.unbatched else None
            request = self.request(asked, request_id, body, answered.set_result, context, rows)
            request.timeout_s -= spent_s
        self.start(request)
        try:
            await self._send(request, answered, receive, send)
        except asyncio.CancelledError:
            endpoint.abandon(request)
            raise

    async def _send(self, request: InferenceRequest, answered: asyncio.Future[HttpResponse], receive: Receive, send: Send) -> None:
        """Sends the answer, or learns that the client has hung up: then nobody computes it who need not."""
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

    async def _body(self, asked: RequestHead, headers: dict[bytes, bytes], receive: Receive) -> bytes | BodyBuffer:
        announced = headers.get(b"content-length", b"")
        size = int(announced) if announced.isdigit() else 0
        if size > self.body_max_bytes:
            raise self._too_large()
        arrival = None if b"transfer-encoding" in headers else self.body_buffer(asked, size)
        if arrival is None:
            return await self._whole(receive)
        with closing_unless_done(arrival):
            while arrival.missing:  # the server sees to it that a body is as long as was announced
                event = await receive()
                if event["type"] == "http.disconnect":
                    raise Disconnected
                arrival.write(event.get("body", b""))
        return arrival

    async def _whole(self, receive: Receive) -> bytes:
        parts, size, more = [], 0, True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise Disconnected
            parts.append(event.get("body", b""))
            size += len(parts[-1])
            if size > self.body_max_bytes:
                raise self._too_large()
            more = event.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> TooLarge:
        return TooLarge(f"a body may have {self.body_max_bytes} bytes; send fewer rows at once")
