"""Requests of the admin API end, whatever their client does."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from runtime.admin.api.limits import BODY_MAX_BYTES, HANG_UP, RequestLimitsMiddleware


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that sends the number of bytes it received."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "size", "size": size})


async def ask(pieces: list[bytes]) -> list[Message]:
    sent: list[Message] = []
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting[-1]["more_body"] = False

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    await RequestLimitsMiddleware(read_all)({"type": "http"}, receive, send)
    return sent


def test_a_body_of_exactly_the_limit_is_read() -> None:
    """In one piece or in several."""
    assert asyncio.run(ask([b"x" * BODY_MAX_BYTES])) == [{"type": "size", "size": BODY_MAX_BYTES}]
    assert asyncio.run(ask([b"x" * (BODY_MAX_BYTES - 1), b"x"])) == [{"type": "size", "size": BODY_MAX_BYTES}]


def test_a_larger_body_is_rejected() -> None:
    """The length that the client declares does not matter."""
    with pytest.raises(HTTPException) as refused:
        asyncio.run(ask([b"x" * BODY_MAX_BYTES, b"x"]))
    assert refused.value.status_code == 413


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_client_that_stops_sending_gets_a_504() -> None:
    """The response closes the connection."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RequestLimitsMiddleware(read_all, request_s=0.01)({"type": "http"}, never, send))
    start, body = sent
    assert (start["status"], json.loads(body["body"])["code"]) == (504, "deadline_exceeded")
    assert (b"connection", b"close") in start["headers"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_stops_reading_is_disconnected(begun: bool) -> None:
    """It may stop in the middle of the response, or before it."""
    hung_up: list[bool] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start"})
        await receive()

    async def send(message: Message) -> None:
        if not begun:
            await never()

    asyncio.run(RequestLimitsMiddleware(answer, request_s=0.01)({"type": "http", HANG_UP: lambda: hung_up.append(True)}, never, send))
    assert hung_up == [True]
