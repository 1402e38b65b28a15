"""More load than a model can take: requests that are sent whether earlier ones were answered or not, and their outcomes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from rawhttp import post

_FIRST = 1000
"""The model `tiny` suffers at some smaller numbers."""

_KEPT_S = 2.0
"""Servers end connections that are idle for a while."""


@dataclass
class RequestOutcome:
    """The outcome of one request.

    Attributes:
        first: The x of its first row; the others follow it.
        asked, had: When it was sent and when its response was complete, by the monotonic clock.
        answered_meanwhile: Number of other requests that were answered with 200 in between.
    """

    first: int
    asked: float
    had: float
    status: int
    headers: dict[str, str]
    body: Any
    answered_meanwhile: int


@dataclass
class Flood:
    """Requests for one path at a constant rate, over as many connections as that takes.

    Attributes:
        rows: Rows of a request; each row has another x.
        headers: Further lines of each head.
        told: Outcomes of the requests that were answered.
        broken: Number of the others.
    """

    address: str
    path: str
    rows: int
    headers: tuple[str, ...] = ()
    told: list[RequestOutcome] = field(default_factory=list)
    broken: int = 0

    def __post_init__(self) -> None:
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._used: dict[asyncio.StreamWriter, float] = {}
        self._good = 0
        self._firsts = itertools.count(_FIRST, self.rows)

    async def run(self, per_s: float, seconds: float) -> None:
        """Sends the requests of that time, and waits for their responses."""
        began, count = time.monotonic(), int(per_s * seconds)
        async with asyncio.TaskGroup() as asking:
            for i in range(count):
                await asyncio.sleep(began + i / per_s - time.monotonic())
                asking.create_task(self.ask())
        while self._free:
            await self._close(self._free.pop()[1])

    async def ask(self) -> None:
        """Sends one request."""
        reader, writer = await self._connection()
        first, asked, before = next(self._firsts), time.monotonic(), self._good
        writer.write(post(self.path, [{"x": first + i} for i in range(self.rows)], *self.headers))
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:] if line)}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
        except (asyncio.IncompleteReadError, OSError):
            self.broken += 1
            await self._close(writer)
            return
        status = int(lines[0].split()[1])
        self.told.append(RequestOutcome(first, asked, time.monotonic(), status, headers, body, self._good - before))
        self._good += status == 200
        self._used[writer] = time.monotonic()
        self._free.append((reader, writer))

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Returns a free connection that the server has not ended; closes the others."""
        while self._free:
            reader, writer = self._free.pop()
            if not reader.at_eof() and time.monotonic() - self._used[writer] < _KEPT_S:
                return reader, writer
            await self._close(writer)
        parts = urlsplit(self.address)
        return await asyncio.open_connection(parts.hostname, parts.port)

    @staticmethod
    async def _close(writer: asyncio.StreamWriter) -> None:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    def with_status(self, status: int) -> list[RequestOutcome]:
        """Returns the outcomes with this status."""
        return [each for each in self.told if each.status == status]
