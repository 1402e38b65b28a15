"""Converts ASGI scopes to request contexts, and responses to ASGI events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from base.endpoint.context import RequestContext
from base.errors import UnsupportedMedia
from base.ipc.release_spec import EndpointSpec
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.response_stream import streams_arrow
from runtime.front.requests.target import parse_query

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Disconnected(Exception):
    """The client disconnected before its body was complete."""


async def wait_disconnected(receive: Receive) -> None:
    """Returns once the client has disconnected. What is left of its body is ignored."""
    while (await receive())["type"] != "http.disconnect":
        pass


def check_coding(spec: EndpointSpec, headers: Mapping[bytes, bytes]) -> None:
    """Raises UnsupportedMedia if the body is compressed as a whole, and the handler does not take bodies as they are."""
    coding = headers.get(b"content-encoding", b"identity").lower()
    if coding != b"identity" and not spec.raw:
        raise UnsupportedMedia(f"bodies are taken as they are, and not in {coding.decode('latin-1')!r}; send it uncompressed")


async def receive_piece(receive: Receive) -> tuple[bytes, bool]:
    """Returns the next bytes of a body, and whether more follow.

    Raises:
        Disconnected: The client disconnected before.
    """
    event = await receive()
    if event["type"] == "http.disconnect":
        raise Disconnected
    return event.get("body", b""), event.get("more_body", False)


def request_context(spec: EndpointSpec, scope: Scope, headers: Mapping[bytes, bytes], accept: str, request_id: str) -> RequestContext:
    """Returns the context of a request for an endpoint's handler. It has only those headers that the author named.

    Raises:
        Malformed: The query has too many fields, or is not UTF-8.
    """
    query = parse_query(scope["query_string"])
    given = {name: headers[name.encode()].decode("latin-1") for name in spec.headers if name.encode() in headers}
    content_type = headers.get(b"content-type", b"").decode("latin-1") if spec.raw else ""
    return RequestContext(request_id, given, query, content_type, arrow=streams_arrow(accept, spec))


async def send_response(send: Send, response: HttpResponse) -> None:
    """Sends a response that is not streamed."""
    headers = [*response.headers, (b"content-length", str(len(response.body)).encode())]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def send_stream(send: Send, response: HttpResponse, timeout_s: float) -> bool:
    """Sends the parts of a response as they come. The server blocks `send` while the client does not read.

    Returns:
        False if the client took longer than `timeout_s` for one part, or the response is incomplete; the connection must then be closed.
    """
    assert response.stream is not None
    headers = [*response.headers, (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    try:
        while (piece := await response.stream.next()) is not None:
            async with asyncio.timeout(timeout_s):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        return False
    if response.stream.is_cut:
        return False
    await send({"type": "http.response.body", "body": b""})
    return True
