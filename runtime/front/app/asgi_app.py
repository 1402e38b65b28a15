"""The ASGI application: answers requests that the fast path cannot, such as chunked bodies, streams, contexts and pages."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from base.errors import NotFound, PexdockError, Unauthorized, Unavailable
from base.ipc.front_door_control import JobAccess
from runtime.front.app import health, table_bodies
from runtime.front.app.asgi import (
    Disconnected,
    Receive,
    Scope,
    Send,
    check_coding,
    receive_piece,
    request_context,
    send_response,
    send_stream,
)
from runtime.front.app.fast_path import allocate_body_buffer, is_for_file
from runtime.front.app.jobs.prefer import parse_prefer
from runtime.front.app.jobs.resource import JobCall, JobResource
from runtime.front.app.service import InferenceService
from runtime.front.memory.body_buffer import BodyBuffer, closed_on_error
from runtime.front.requests.problems import method_not_allowed_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.scheduling.admission import check_available, check_parameters, submit_request
from runtime.http.head_rules import combine_headers

log = logging.getLogger(__name__)


class AsgiApp:
    """Answers predictions itself, and pages through FastAPI.

    Args:
        service: Serves predictions.
        send_timeout_s: Time limit for a client to read one part of a streamed response, in seconds.
        jobs: Where jobs are, and their limits; None if there are none.
    """

    def __init__(self, service: InferenceService, send_timeout_s: float, jobs: JobAccess | None = None) -> None:
        self._service = service
        self.jobs = None if jobs is None else JobResource(jobs, service.routes, service.slow_bodies, service.table_files, send_timeout_s)
        self._send_timeout_s = send_timeout_s
        self._pages = health.make_pages(service, has_jobs=jobs is not None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request (the ASGI entry)."""
        service = self._service
        page = health.page_of(scope["raw_path"])
        if page not in health.OPEN and not service.admits(scope["headers"]):
            await send_response(send, service.refusal(Unauthorized(_NO_KEY), next(service.ids), None))
            return
        # Probes come first: a model whose path is a single parameter must not hide them.
        is_job = page is not None and health.JOBS.fullmatch(page) is not None
        if page is not None and not is_job and not scope["raw_path"].endswith(b"/"):
            method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server drops the body of a response to HEAD
            await self._pages({**scope, "path": page, "method": method}, receive, send)
            return
        request_id = next(service.ids)
        target: Target | None = None
        try:
            if page is not None and is_job:
                await self._answer_jobs(page, scope, receive, send, request_id)
                return
            if page is None:
                target = service.routes.route_request(scope["method"], scope["raw_path"], scope["query_string"])
            if target is None:
                if page is None and (methods := service.routes.methods_at(scope["raw_path"])):
                    await send_response(send, method_not_allowed_response(request_id, ", ".join(methods)))
                    return
                raise NotFound("no endpoint has this path; GET /docs lists those that are served")
            await self._predict(target, scope, receive, send, request_id)
        except PexdockError as exc:
            if target is None and isinstance(exc, Unavailable):
                service.note_refused(scope["raw_path"])
            await send_response(send, service.refusal(exc, request_id, target))
        except Disconnected:
            return
        except Exception:  # it ends this request only; the client finds the reason by the id
            log.exception("request %s failed", request_id)
            error = PexdockError("internal error; the log of the front door has the reason under this request ID")
            await send_response(send, service.refusal(error, request_id, target))

    async def _predict(self, target: Target, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        service = self._service
        headers = combine_headers(scope["headers"])
        if self.jobs is not None and (target.endpoint.spec.job or b"prefer" in headers):
            preference = parse_prefer(headers.get(b"prefer", b""))
            if target.endpoint.spec.job or preference.respond_async:
                await self.jobs.accept(self._job_call(scope, receive, send, request_id), target, preference)
                return
        content_type, accept = (headers.get(name, b"").decode("latin-1") for name in (b"content-type", b"accept"))
        head = service.routes.request_head(target, headers, content_type, accept)
        if head.selector is None:
            check_available(head.target.endpoint)
        check_coding(head.target.endpoint.spec, headers)
        body = await self._read_body(head, headers, scope, receive)
        responded: asyncio.Future[HttpResponse] = asyncio.get_running_loop().create_future()
        with closed_on_error(body):
            head, rows = await service.select(head, body, request_id)
            endpoint = head.target.endpoint
            spent_s = await check_parameters(head)
            if endpoint.release.retiring:
                head, rows = await service.select(head, body, request_id)
                endpoint = head.target.endpoint
            if spent_s:
                head = head.with_less_time(spent_s)
            context = request_context(endpoint.spec, scope, headers, accept, request_id) if endpoint.spec.unbatched else None
            request = submit_request(head, request_id, body, responded.set_result, context, rows)
            request.reply_files = service.table_files
        try:
            await self._send(request, responded, receive, send)
        except asyncio.CancelledError:
            request.abandon()
            raise

    async def _answer_jobs(self, path: str, scope: Scope, receive: Receive, send: Send, request_id: str) -> None:
        if self.jobs is None:
            raise NotFound("there are no jobs here: only `pexdock serve` runs them, if job_workers is 1 or more")
        await self.jobs.answer(self._job_call(scope, receive, send, request_id), path)

    def _job_call(self, scope: Scope, receive: Receive, send: Send, request_id: str) -> JobCall:
        return JobCall(scope, receive, send, self._service.client_of(scope["headers"]), request_id)

    async def _send(self, request: InferenceRequest, responded: asyncio.Future[HttpResponse], receive: Receive, send: Send) -> None:
        """Sends the response. Abandons the request if the client disconnects, so that no worker computes it needlessly."""
        gone: asyncio.Future[Any] = asyncio.ensure_future(receive())  # the body has been read, so only a disconnect can come
        try:
            await asyncio.wait([responded, gone], return_when=asyncio.FIRST_COMPLETED)
            if not responded.done():
                request.abandon()
                return
            gone.add_done_callback(lambda _: request.abandon())
            response = responded.result()
            if response.stream is None:
                await send_response(send, response)
            elif not await send_stream(send, response, self._send_timeout_s):
                if not gone.done():
                    reason = "the handler failed after its first part" if response.stream.is_cut else "its client reads too slowly"
                    log.warning("request %s: the response is cut, since %s", request.id, reason)
                request.abandon()
        finally:
            gone.cancel()

    async def _read_body(self, head: RequestHead, headers: dict[bytes, bytes], scope: Scope, receive: Receive) -> bytes | BodyBuffer:
        announced, files = headers.get(b"content-length", b""), self._service.table_files
        size = int(announced) if announced.isdigit() else 0
        max_bytes = table_bodies.require_size(head, size, self._service.body_max_bytes, files)
        if b"transfer-encoding" in headers:
            return await table_bodies.read_parts(head, files, max_bytes, receive)
        if is_for_file(head, size, files):
            return await table_bodies.read_table(files, size, scope, receive)
        buffer = allocate_body_buffer(head, size)
        if buffer is None:
            return await table_bodies.read_parts(head, files, max_bytes, receive)
        with closed_on_error(buffer):
            while buffer.missing_bytes:  # the server ensures that a body has the announced length
                buffer.append((await receive_piece(receive))[0])
        return buffer


_NO_KEY = "missing or invalid API key; send `Authorization: Bearer KEY` or `X-API-Key: KEY`"
