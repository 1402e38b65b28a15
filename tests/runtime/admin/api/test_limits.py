"""Requests of the admin side end, whatever their client does."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from runtime.admin.api.limits import BODY_MAX_BYTES, HANG_UP, RequestLimitsMiddleware


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that says how many bytes it was sent."""
    size = 0
    while (message := await receive())["type"] == "http.request":
        size += len(message["body"])
        if not message.get("more_body"):
            break
    await send({"type": "said", "size": size})


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


def test_a_body_of_just_the_bound_is_read() -> None:
    """In one piece or in many."""
    assert asyncio.run(ask([b"x" * BODY_MAX_BYTES])) == [{"type": "said", "size": BODY_MAX_BYTES}]
    assert asyncio.run(ask([b"x" * (BODY_MAX_BYTES - 1), b"x"])) == [{"type": "said", "size": BODY_MAX_BYTES}]


def test_a_byte_more_is_refused() -> None:
    """Whatever the client said of its length."""
    with pytest.raises(HTTPException) as refused:
        asyncio.run(ask([b"x" * BODY_MAX_BYTES, b"x"]))
    assert refused.value.status_code == 413


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def test_a_client_that_says_nothing_more_is_cut_off() -> None:
    """It is told so, and that the connection ends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(RequestLimitsMiddleware(read_all, request_s=0.01)({"type": "http"}, never, send))
    start, body = sent
    assert (start["status"], json.loads(body["body"])["code"]) == (504, "deadline_exceeded")
    assert (b"connection", b"close") in start["headers"]


@pytest.mark.parametrize("begun", [True, False])
def test_a_client_that_takes_nothing_more_is_hung_up_on(begun: bool) -> None:
    """Be it in the middle of its answer, or that it takes no word at all."""
    hung_up: list[bool] = []

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start"})
        await receive()

    async def send(message: Message) -> None:
        if not begun:
            await never()

    asyncio.run(RequestLimitsMiddleware(answer, request_s=0.01)({"type": "http", HANG_UP: lambda: hung_up.append(True)}, never, send))
    assert hung_up == [True]
