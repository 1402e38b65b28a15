"""Clients: steady ones, ones that send invalid requests, slow ones, and floods."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from soaking.counts import Counts, SentRequest
from soaking.world import World

ANSWER_S = 30.0
"""Longer than any time limit of the server: a request that waits longer was forgotten."""

_BAD = [
    (b'[{"x": 1}', 400),
    (b'[{"x": "one"}]', 422),
    (b'[{"y": 1}]', 422),
    (b"[" * 100_000, 400),
    (b'[{"x": 123456789012345678901234567890}]', 422),
]


class Callers:
    """All clients of a soak test. Each client runs until the load ends."""

    def __init__(self, world: World, counts: Counts, dice: random.Random, stopped: Callable[[], bool]) -> None:
        self._world, self._counts, self._dice, self._stopped = world, counts, dice, stopped
        parts = urlsplit(world.supervised.state()["address"])
        self._address = (str(parts.hostname), int(parts.port or 0))

    async def send_steadily(self, model: str) -> None:
        """Sends requests over one connection after another; each is used until the server closes it."""
        while not self._stopped():
            async with self._connection() as (reader, writer):
                kept = True
                while kept and not self._stopped():
                    kept = await self._ask(model, model, self._dice.choice((1, 1, 1, 3, 40)), reader, writer)
                    await asyncio.sleep(self._dice.random() * 0.01)

    async def send_invalid(self) -> None:
        """Sends invalid requests. Each has a status of its own, and affects no other request."""
        while not self._stopped():
            body, expected = self._dice.choice(_BAD)
            async with self._connection() as (reader, writer):
                answer = await self._exchange("bad", _head("/quick", len(body)) + body, reader, writer)
                if answer is not None:
                    self._counts.count_status("bad", *answer[:2])
                    if answer[0] not in {expected, 429, 503}:
                        self._counts.add_fault(f"bad: {body[:40]!r} was answered with {answer[0]} instead of {expected}")
            await asyncio.sleep(0.05)

    async def send_slowly(self) -> None:
        """Sends requests a few bytes at a time, for a second or two."""
        while not self._stopped():
            async with self._connection() as (reader, writer):
                await self._ask("slow sender", "quick", 2, reader, writer, pause_s=0.03)

    async def flood(self, connections: int) -> None:
        """Opens this many connections at once, and sends a full batch over each to a slow model."""

        async def one() -> None:
            async with self._connection() as (reader, writer):
                await self._ask("flood", "slow", 64, reader, writer)

        await asyncio.gather(*(one() for _ in range(connections)))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        while True:
            try:
                reader, writer = await asyncio.open_connection(*self._address)
                break
            except ConnectionRefusedError:  # nobody listens between two supervisors
                await asyncio.sleep(0.05)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _ask(
        self, who: str, model: str, rows: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause_s: float = 0.0
    ) -> bool:
        """Sends a request, and returns whether the connection can be used again."""
        sent = SentRequest(who, model, self._counts.unique_rows(rows), time.monotonic())
        body = json.dumps(sent.rows).encode()
        answer = await self._exchange(who, _head(f"/{model}", len(body)) + body, reader, writer, pause_s)
        if answer is None:
            return False
        status, document, kept = answer
        self._counts.add_answer(sent, status, document, self._world.releases[model])
        return kept

    async def _exchange(
        self, who: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float = 0.0
    ) -> tuple[int, object, bool] | None:
        """Returns status, body, and whether the connection stays open; None if it closed before, which is counted."""
        self._counts.asked += 1
        try:
            await _send(request, writer, pause_s)
            return await asyncio.wait_for(_answer(reader), ANSWER_S)
        except (ConnectionError, asyncio.IncompleteReadError):
            self._counts.lost.append(time.monotonic())
        except TimeoutError:
            self._counts.add_fault(f"{who}: no answer within {ANSWER_S:g} s")
        return None


async def _send(request: bytes, writer: asyncio.StreamWriter, pause_s: float) -> None:
    size = 5 if pause_s else len(request)
    for start in range(0, len(request), size):
        writer.write(request[start : start + size])
        await writer.drain()
        if pause_s:
            await asyncio.sleep(pause_s)


async def _answer(reader: asyncio.StreamReader) -> tuple[int, object, bool]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
    headers = {name: value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split(" ")[1]), json.loads(body), headers.get("connection") != "close"


def _head(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: soak", "content-type: application/json", f"content-length: {length}", "", ""]
    return "\r\n".join(lines).encode()
