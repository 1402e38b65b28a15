"""Admits, decodes and queues requests, or refuses them. This is the entry point of the package."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable
from typing import TypeVar

from polars.exceptions import PanicException

from base.endpoint.context import RequestContext
from base.errors import DeadlineExceeded, PexdockError, TooLarge
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.streamed_request import StreamedRequest
from runtime.front.scheduling.divided_request import DividedRequest, GroupedRequest
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.telemetry.metrics import now_s

log = logging.getLogger(__name__)

TIME_STEP_S = 0.01
"""Steps in which the time of a parameter check or of a slow decoder is counted, in seconds. Requests with equal time limits share a lane
of `Deadlines`."""


D = TypeVar("D", bound=DividedRequest)


def submit_request(
    head: RequestHead,
    request_id: str,
    body: bytes | BodyBuffer,
    respond: Callable[[HttpResponse], None],
    context: RequestContext | None = None,
    rows: Rows | None = None,
) -> InferenceRequest:
    """Admits, decodes and queues a request. The request then owns its body buffer.

    Args:
        head: The request's head; its target is final.
        request_id: Unique among all requests.
        body: The whole body.
        respond: Called with the response, perhaps before this returns.
        context: Context that the handler gets beside the rows, for endpoints that are not batched.
        rows: The rows of the body, if they were decoded before.

    Raises:
        PexdockError: the request is refused. `respond` will not be called, and the caller still owns the body.
    """
    queue = head.target.endpoint
    assert isinstance(queue, EndpointQueue)
    if not queue.release.up:
        queue.scheduler.workers.check_available()
    size_bytes = 0 if isinstance(body, BodyBuffer) else len(body)
    if queue.waiting.size:
        queue.check_room(head, size_bytes)
    began_s = 0.0 if queue.metrics is None else now_s()
    if rows is None:
        rows = decode_rows(head, body, request_id)
    if rows.count > queue.request_max_rows:
        check_row_count(queue, rows.count)
    if rows.count > queue.call_max_rows and (queue.spec.group_by or queue.parallel_calls > 1):
        whole = GroupedRequest if queue.spec.group_by else DividedRequest
        request: InferenceRequest = queue.add_divided(whole(head, rows, request_id, respond, context, began_s), size_bytes)
    else:
        kind = StreamedRequest if queue.spec.streams else InferenceRequest
        request = kind(head, rows, request_id, respond, context, began_s)
        request.size_bytes = size_bytes
        if not request.row_count:
            if not queue.spec.whole or queue.spec.group_by:
                _answer_empty(request)
                return request
            request.row_count = 1  # it takes a batch of its own
        if queue.spec.streams:
            queue.add_request(request)
        else:
            queue.waiting.add_request(request)
        if queue.metrics is not None:
            request.queued_s = now_s()
        queue.deadlines.watch(request)
    queue.policy.arrivals += 1
    queue.scheduler.wake()
    if head.mirror is not None and not request.answered and head.mirror.should_copy():
        request.observer = head.mirror.copy(head, rows, body, request_id)
    return request


def check_admission(head: RequestHead, size_bytes: int) -> None:
    """Raises the errors by which `submit_request` refuses a request before it decodes the body."""
    queue = head.target.endpoint
    assert isinstance(queue, EndpointQueue)
    queue.scheduler.workers.check_available()
    queue.check_room(head, size_bytes)


def check_row_count(endpoint: ServedEndpoint, count: int) -> None:
    """Raises TooLarge if a request for an endpoint may not have so many rows."""
    assert isinstance(endpoint, EndpointQueue)
    limit = endpoint.request_max_rows
    if count > limit:
        raise TooLarge(f"the request has {count} rows, limit {limit}; send fewer rows at once, or raise request_max_rows")


def decode_rows(head: RequestHead, body: bytes | BodyBuffer, request_id: str) -> Rows:
    """Returns the rows of a body. May be called on any thread.

    Raises:
        PexdockError: The body cannot be decoded, or its rows do not fit the schema.
    """
    try:
        return head.decode(body) if isinstance(body, bytes) else head.decode_body(body)
    except PexdockError:
        raise
    except (Exception, PanicException) as exc:  # third-party codecs may raise anything, which must end only this request
        raise _decoder_failed(exc, request_id) from exc


def submit_copy(request: InferenceRequest) -> None:
    """Queues the copy of a request for another release, or fails the copy."""
    queue = request.endpoint
    assert isinstance(queue, EndpointQueue)
    if queue.metrics is not None:
        request.queued_s = now_s()
    queue.deadlines.watch(request)
    queue.policy.arrivals += 1
    queue.enqueue(request)


def submit_divided(request: D) -> D:
    """Queues the parts of a request, and returns it."""
    queue = request.endpoint
    assert isinstance(queue, EndpointQueue)
    queue.add_divided(request, 0)
    queue.policy.arrivals += 1
    queue.scheduler.wake()
    return request


def submit_suspect(request: InferenceRequest) -> None:
    """Queues a request that may end its worker, which gets nothing else beside it."""
    queue = request.endpoint
    assert isinstance(queue, EndpointQueue)
    queue.deadlines.watch(request)
    queue.scheduler.enqueue_suspect(request)


def check_available(endpoint: ServedEndpoint) -> None:
    """Raises Unavailable if no worker takes batches of an endpoint, so that its requests can be refused before their body is read."""
    assert isinstance(endpoint, EndpointQueue)
    endpoint.scheduler.workers.check_available()


async def check_parameters(head: RequestHead, *, copied: bool = False) -> float:
    """Makes a worker check the parameters of a request's path against the artifact spec, unless they were admitted before.

    A check is as dangerous as a request: it may crash a worker, or be lost with a worker that crashes. So it waits for a worker as requests
    do, and if its worker crashes, it is sent again as the only work of another worker.

    Args:
        head: The request's head.
        copied: Whether the request is a copy, for which the check is not retried.

    Returns:
        Time of the check in seconds, in whole steps, by which the request's time limit is reduced.

    Raises:
        PexdockError: the parameters are refused, or no worker could check them in time.
    """
    if head.target.admitted:
        return 0.0
    began_s = asyncio.get_running_loop().time()
    check_available(head.target.endpoint)
    check = ParameterCheck(head, copied=copied)
    _queue_of(check).scheduler.enqueue_check(check)
    try:
        async with asyncio.timeout(head.timeout_s):
            await check.wait()
    except TimeoutError as exc:
        raise DeadlineExceeded(f"the parameters were not checked within {head.timeout_s:g} s") from exc
    finally:
        _queue_of(check).scheduler.forget_check(check)
    return (asyncio.get_running_loop().time() - began_s) // TIME_STEP_S * TIME_STEP_S


def _queue_of(check: ParameterCheck) -> EndpointQueue:
    assert isinstance(check.endpoint, EndpointQueue)  # the queue of the failover target, once the check was handed over
    return check.endpoint


def _answer_empty(request: InferenceRequest) -> None:
    """Answers a request without rows, without calling a handler."""
    if isinstance(request, StreamedRequest):
        request.end_stream()
    else:
        request.succeed(ReplyEncoder.for_no_rows(request.endpoint.output_schema), 0)


def _decoder_failed(error: BaseException, request_id: str) -> PexdockError:
    """Logs where a decoder failed, but not its message, which may quote the body. Returns the error for the client."""
    place = "".join(traceback.format_tb(error.__traceback__))
    log.error("decoding the body of request %s failed: %s at\n%s", request_id, type(error).__name__, place)
    return PexdockError("internal error while decoding the body; the log of the front door has the details under this request ID")
