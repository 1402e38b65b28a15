"""What ASGI says of a request, and answers as ASGI events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from base.endpoint.context import RequestContext
from base.errors import Malformed
from runtime.front.requests.response import HttpResponse

if TYPE_CHECKING:
    from runtime.front.scheduling.endpoint_queue import EndpointQueue

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_QUERY_FIELDS_MAX = 1000


def context_of(endpoint: EndpointQueue, scope: Scope, headers: Mapping[bytes, bytes], request_id: str) -> RequestContext:
    """What the endpoint's handler may know of a request: of the headers only those that its author named.

    Raises:
        Malformed: the query has too many fields, or is no UTF-8.
    """
    try:
        query = parse_qs(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_QUERY_FIELDS_MAX)
    except ValueError as exc:  # UnicodeError is one
        raise Malformed(f"the query cannot be read; it may have {_QUERY_FIELDS_MAX} fields of UTF-8") from exc
    given = {name: headers[name.encode()].decode("latin-1") for name in endpoint.spec.headers if name.encode() in headers}
    return RequestContext(request_id, given, query, headers.get(b"content-type", b"").decode("latin-1") if endpoint.spec.raw else "")


async def send_answer(send: Send, answer: HttpResponse) -> None:
    """Sends an answer that is whole."""
    headers = [*answer.headers, (b"content-length", str(len(answer.body)).encode())]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


async def send_stream(send: Send, answer: HttpResponse, timeout_s: float) -> bool:
    """Sends an answer as its parts come. The server holds `send` back while the client does not read.

    Returns:
        False when the client took longer than `timeout_s` for one part; the connection is then of no further use.
    """
    assert answer.stream is not None
    headers = [*answer.headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    try:
        while (piece := await answer.stream.next()) is not None:
            async with asyncio.timeout(timeout_s):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        return False
    await send({"type": "http.response.body", "body": b""})
    return True
