"""Connections of the admin side end in time, whatever is sent over them: a real server with short times, and real sockets."""

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
from runtime.admin.server.server import AdminServer

HEAD = b"GET / HTTP/1.1\r\nHost: test\r\n"
DEADLINE_S = 20.0
LARGE = b"x" * 1_000_000

Sender = Callable[[asyncio.StreamWriter], None]
"""Sends some more."""


async def answer(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that reads no body."""
    await Response(LARGE if scope["path"] == "/large" else b"answered")(scope, receive, send)


@asynccontextmanager
async def served() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server of it, both of which end."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = AdminServer(RequestLimitsMiddleware(answer, request_s=0.2), listener, limits=Limits(head_s=0.2))
    await server.start()
    reader, writer = await asyncio.open_connection(*listener.getsockname())
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        await server.close()


async def end_of(said: bytes, again: bytes) -> bytes:
    """What is answered until the connection ends, while more comes all the time."""

    async def read_all(reader: asyncio.StreamReader) -> bytes:
        found = b""
        try:
            while data := await reader.read(65536):
                found += data
        except ConnectionError:
            pass  # what was not read any more resets it
        return found

    async with asyncio.timeout(DEADLINE_S), served() as (reader, writer):
        writer.write(said)
        reading = asyncio.ensure_future(read_all(reader))
        while not reading.done():
            if again:
                writer.write(again)
            await asyncio.wait([reading], timeout=0.02)
        return reading.result()


@pytest.mark.parametrize(
    ("said", "again"),
    [
        (b"", b""),
        (b"G", b""),
        (HEAD, b"X: y\r\n"),
        (HEAD + b"X: ", b"y"),
        (b"", b"\r\n"),
    ],
    ids=["nothing", "a letter", "headers, one after the other", "a header without an end", "empty lines"],
)
def test_whoever_asks_nothing_in_time_is_hung_up_on(said: bytes, again: bytes) -> None:
    """However busy the connection is."""
    assert asyncio.run(end_of(said, again)) == b""


@pytest.mark.parametrize("coding", [b"Content-Length: 1000000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"])
def test_a_body_that_nobody_wants_is_not_taken_for_ever(coding: bytes) -> None:
    """Its request is answered, once, and what goes on to come is not waited for."""
    found = asyncio.run(end_of(HEAD + coding, b"1\r\nx\r\n"))
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.endswith(b"answered")
    assert found.count(b"HTTP/1.1") == 1


def test_whoever_takes_no_answers_is_hung_up_on() -> None:
    """Requests one behind the other whose answers nobody reads hold no place."""

    async def hung_up_on() -> None:
        async with asyncio.timeout(DEADLINE_S), served() as (reader, writer):
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n" * 100)
            while not writer.transport.is_closing():
                writer.write(b"\r\n")
                await asyncio.sleep(0.02)

    asyncio.run(hung_up_on())
