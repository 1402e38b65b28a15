"""What happens to a Pexdock that is soaked, in an order that the seed decides."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import signal
import time
from collections.abc import Callable

from soaking.callers import Callers
from soaking.counts import Counts
from soaking.world import World

log = logging.getLogger(__name__)

PAUSES_S = (0.3, 2.0)
"""Between two mishaps."""

FLOOD_CONNECTIONS = 120
"""64 rows each: more than may wait for one endpoint."""

_KINDS = {"kill_worker": 4, "kill_front_door": 2, "stop_worker": 2, "swap": 3, "drop_broken": 1, "flood": 2}


class Mischief:
    """One mishap after the other.

    Attributes:
        done: kind → how often.
        front_door_kills: when (monotonic) one was killed.
    """

    def __init__(self, world: World, callers: Callers, counts: Counts, dice: random.Random, stopped: Callable[[], bool]) -> None:
        self._world, self._callers, self._counts, self._dice, self._stopped = world, callers, counts, dice, stopped
        self.done = dict.fromkeys(_KINDS, 0)
        self.front_door_kills: list[float] = []

    async def run(self) -> None:
        """Until it is stopped. Each kind comes once before chance decides."""
        first = list(_KINDS)
        self._dice.shuffle(first)
        while not self._stopped():
            kind = first.pop() if first else self._dice.choices(list(_KINDS), list(_KINDS.values()))[0]
            log.info("%s", kind.replace("_", " "))
            await getattr(self, kind)()
            self.done[kind] += 1
            await asyncio.sleep(self._dice.uniform(*PAUSES_S))

    async def kill_worker(self) -> None:
        """Of a release that serves."""
        workers = self._world.workers()
        if (pid := self._send(list(workers), signal.SIGKILL)) is not None:
            self._counts.kills[workers[pid]].append(time.monotonic())

    async def kill_front_door(self) -> None:
        """Its connections are lost, and nobody else's."""
        self.front_door_kills.append(time.monotonic())
        self._send(self._world.front_doors(), signal.SIGKILL)

    async def stop_worker(self) -> None:
        """As if the machine had no time for it for a second."""
        pid = self._send(list(self._world.workers()), signal.SIGSTOP)
        await asyncio.sleep(1)
        self._send([pid] if pid else [], signal.SIGCONT)

    async def swap(self) -> None:
        """A newer release of a model."""
        self._world.drop(self._dice.choice(list(self._world.releases)))

    async def drop_broken(self) -> None:
        """A pex that cannot load."""
        self._world.drop_broken()

    async def flood(self) -> None:
        """More than there is room for."""
        await self._callers.flood(FLOOD_CONNECTIONS)

    def _send(self, pids: list[int], number: signal.Signals) -> int | None:
        if not pids:
            return None
        pid = self._dice.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid
