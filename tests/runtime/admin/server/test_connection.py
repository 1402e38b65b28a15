"""Connections of the admin API end in time, whatever is sent over them: a real server with short time limits, and real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from runtime.admin.api.limits import RequestLimitsMiddleware
from runtime.admin.server.connection import Limits
from runtime.admin.server.server import HttpServer

HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
DEADLINE_S = 20.0
LARGE = b"x" * 1_000_000
LARGE_BODY_BYTES = 8_000_000
"""More than the kernel and the server take before anything is read."""

Sender = Callable[[asyncio.StreamWriter], None]
"""Sends more data."""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that does not read the body."""
    response = Response(LARGE if scope["path"] == "/large" else b"answered")
    if scope["path"] == "/closes":
        response.headers["connection"] = "close"
    await response(scope, receive, send)


@asynccontextmanager
async def served(limits: Limits = Limits(head_s=0.2)) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:  # noqa: B008 - frozen
    """Yields a connection to a server of the application, and closes both at the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(RequestLimitsMiddleware(answer, request_s=0.2), listener, limits=limits)
    await server.start()
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await server.close()


async def receive_until_closed(first: bytes, again: bytes) -> bytes:
    """Returns what is received until the connection closes, while `again` is sent all the time."""

    async def read_all(reader: asyncio.StreamReader) -> bytes:
        found = b""
        try:
            while data := await reader.read(65536):
                found += data
        except ConnectionError:
            pass  # unread data resets the connection
        return found

    async with asyncio.timeout(DEADLINE_S), served() as (reader, writer):
        writer.write(first)
        reading = asyncio.ensure_future(read_all(reader))
        while not reading.done():
            if again:
                writer.write(again)
            await asyncio.wait([reading], timeout=0.02)
        return reading.result()


@pytest.mark.parametrize(
    ("first", "again"),
    [
        (b"", b""),
        (b"G", b""),
        (HEAD, b"X: y\r\n"),
        (HEAD + b"X: ", b"y"),
        (b"", b"\r\n"),
    ],
    ids=["nothing", "one letter", "one header after another", "an endless header", "empty lines"],
)
def test_a_client_without_a_complete_head_in_time_is_disconnected(first: bytes, again: bytes) -> None:
    """It is disconnected however much it sends."""
    assert asyncio.run(receive_until_closed(first, again)) == b""


@pytest.mark.parametrize("coding", [b"Content-Length: 1000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_an_unread_body_is_not_received_forever(coding: bytes) -> None:
    """Its request is answered once, and the rest of the body is not awaited."""
    found = asyncio.run(receive_until_closed(HEAD + coding, b"1\r\nx\r\n"))
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.endswith(b"answered")
    assert found.count(b"HTTP/1.1") == 1


def test_a_client_that_does_not_read_responses_is_disconnected() -> None:
    """Pipelined requests whose responses are not read do not hold a connection."""

    async def wait_disconnected() -> None:
        async with asyncio.timeout(DEADLINE_S), served() as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n" * 100)
            while not writer.transport.is_closing():
                writer.write(b"\r\n")
                await asyncio.sleep(0.02)

    asyncio.run(wait_disconnected())


@pytest.mark.parametrize(
    ("limits", "then"),
    [
        (Limits(head_s=600, keep_alive_s=0.2), b""),
        (Limits(head_s=1.0, keep_alive_s=600), HEAD),
    ],
    ids=["nothing", "part of a head"],
)
def test_a_connection_is_kept_between_requests_for_a_time_of_its_own(limits: Limits, then: bytes) -> None:
    """Its end is not a reset, and the next head has its usual time."""

    async def use_and_wait() -> None:
        async with asyncio.timeout(DEADLINE_S), served(limits) as (reader, writer):
            for pause_s in (0.0, limits.head_s * 2 if then else 0.0):
                await asyncio.sleep(pause_s)
                writer.write(HEAD + b"\r\n")
                assert (await reader.readuntil(b"answered")).startswith(b"HTTP/1.1 200 ")
            writer.write(then)
            assert await reader.read() == b""

    asyncio.run(use_and_wait())


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"GET / HTTP/9.9\r\n", b"400"),
        (HEAD + b"X: " + b"y" * 1_000_000, b"400"),
        (b"POST /closes HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n", b"200"),
    ],
    ids=["not HTTP/1.1", "a long head", "a body that nobody reads"],
)
def test_a_client_gets_an_early_response_while_it_still_sends(first: bytes, status: bytes) -> None:
    """What it has sent is unread when the connection is closed, for which the kernel would reset it. It also has not listened yet."""

    async def send_and_read() -> None:
        async with asyncio.timeout(DEADLINE_S), served(Limits()) as (reader, writer):
            writer.write(first + b"x" * LARGE_BODY_BYTES)
            await asyncio.sleep(0.2)
            found = await reader.read()
            assert found.split()[1] == status
            assert found.count(b"HTTP/1.1 ") == 1

    asyncio.run(send_and_read())
