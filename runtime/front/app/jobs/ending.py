"""The end of a front door, for what waits in it on jobs: clients, job runner and files."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_GRACE_S = 1.0
"""Time in seconds that a step has once the front door ends: the job runner to reply, and a client to read one part of a result."""


class Ending:
    """Knows whether the front door ends, and then shortens the time limits of what waits."""

    def __init__(self) -> None:
        self._begun = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()

    def begin(self) -> None:
        """Begins the end. Each block in `limit` is over within the grace period."""
        self._begun.set()
        end_s = asyncio.get_running_loop().time() + _GRACE_S
        for limit in self._limits:
            when = limit.when()
            if when is not None and when > end_s:
                limit.reschedule(end_s)

    async def wait(self) -> None:
        """Returns once the front door ends."""
        await self._begun.wait()

    @contextlib.asynccontextmanager
    async def limit(self, timeout_s: float) -> AsyncIterator[None]:
        """Raises TimeoutError if the block takes longer than `timeout_s`, or than the grace period once the front door ends."""
        async with asyncio.timeout(min(timeout_s, _GRACE_S) if self._begun.is_set() else timeout_s) as limit:
            self._limits.add(limit)
            try:
                yield
            finally:
                self._limits.discard(limit)
