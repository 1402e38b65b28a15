"""Clients: those that ask all the time, those that send nonsense, those that are slow, and those that come in floods."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from soaking.counts import Asked, Counts
from soaking.world import World

ANSWER_S = 30.0
"""Beyond any deadline of the server: whoever waits longer was forgotten."""

_BAD = [
    (b'[{"x": 1}', 400),
    (b'[{"x": "one"}]', 422),
    (b'[{"y": 1}]', 422),
    (b"[" * 100_000, 400),
    (b'[{"x": 123456789012345678901234567890}]', 422),
]


class Callers:
    """All clients of one soak. Each method that calls runs until it is cancelled, or to its end."""

    def __init__(self, world: World, counts: Counts, dice: random.Random, stopped: Callable[[], bool]) -> None:
        self._world, self._counts, self._dice, self._stopped = world, counts, dice, stopped
        parts = urlsplit(world.supervised.state()["address"])
        self._address = (str(parts.hostname), int(parts.port or 0))

    async def ask_on(self, model: str) -> None:
        """One connection after the other; each is kept as long as the server keeps it."""
        while not self._stopped():
            async with self._connection() as (reader, writer):
                kept = True
                while kept and not self._stopped():
                    kept = await self._ask(model, model, self._dice.choice((1, 1, 1, 3, 40)), reader, writer)
                    await asyncio.sleep(self._dice.random() * 0.01)

    async def ask_badly(self) -> None:
        """Each nonsense has its own status, and no other request suffers from it."""
        while not self._stopped():
            body, expected = self._dice.choice(_BAD)
            async with self._connection() as (reader, writer):
                answer = await self._exchange("bad", _head("/quick", len(body)) + body, reader, writer)
                if answer is not None:
                    self._counts.note("bad", *answer[:2])
                    if answer[0] not in {expected, 429, 503}:
                        self._counts.fault(f"bad: {body[:40]!r} was answered with {answer[0]}, and not with {expected}")
            await asyncio.sleep(0.05)

    async def ask_slowly(self) -> None:
        """A few bytes at a time, for a second or two."""
        while not self._stopped():
            async with self._connection() as (reader, writer):
                await self._ask("slow sender", "quick", 2, reader, writer, pause_s=0.03)

    async def flood(self, connections: int) -> None:
        """So many at once, each with a full batch, for a model that takes its time."""

        async def one() -> None:
            async with self._connection() as (reader, writer):
                await self._ask("flood", "slow", 64, reader, writer)

        await asyncio.gather(*(one() for _ in range(connections)))

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await asyncio.open_connection(*self._address)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def _ask(
        self, who: str, model: str, rows: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, pause_s: float = 0.0
    ) -> bool:
        """Whether the connection can be used again."""
        asked = Asked(who, model, self._counts.rows(rows), time.monotonic())
        body = json.dumps(asked.rows).encode()
        answer = await self._exchange(who, _head(f"/{model}", len(body)) + body, reader, writer, pause_s)
        if answer is None:
            return False
        status, said, kept = answer
        self._counts.answer(asked, status, said, self._world.releases[model])
        return kept

    async def _exchange(
        self, who: str, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pause_s: float = 0.0
    ) -> tuple[int, object, bool] | None:
        """Status, body, and whether the connection is kept; None where it ended first, which is noted."""
        self._counts.asked += 1
        try:
            await _send(request, writer, pause_s)
            return await asyncio.wait_for(_answer(reader), ANSWER_S)
        except (ConnectionError, asyncio.IncompleteReadError):
            self._counts.lost.append(time.monotonic())
        except TimeoutError:
            self._counts.fault(f"{who}: no answer within {ANSWER_S:g} s")
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
