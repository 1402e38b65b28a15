"""The faults that a soak test injects, in an order that depends on the seed."""

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
"""Bounds of the pause between two faults."""

FLOOD_CONNECTIONS = 120
"""Each sends 64 rows: more than the queue of an endpoint admits."""

_KINDS = {"kill_worker": 4, "kill_front_door": 2, "stop_worker": 2, "swap": 3, "drop_broken": 1, "flood": 2}


class Mischief:
    """Injects one fault after another.

    Attributes:
        done: Kind → number of faults.
        front_door_kills: Times (monotonic) at which a front door was killed.
    """

    def __init__(self, world: World, callers: Callers, counts: Counts, dice: random.Random, stopped: Callable[[], bool]) -> None:
        self._world, self._callers, self._counts, self._dice, self._stopped = world, callers, counts, dice, stopped
        self.done = dict.fromkeys(_KINDS, 0)
        self.front_door_kills: list[float] = []

    async def run(self) -> None:
        """Injects faults until the load ends: each kind once, then at random."""
        first = list(_KINDS)
        self._dice.shuffle(first)
        while not self._stopped():
            kind = first.pop() if first else self._dice.choices(list(_KINDS), list(_KINDS.values()))[0]
            log.info("%s", kind.replace("_", " "))
            await getattr(self, kind)()
            self.done[kind] += 1
            await asyncio.sleep(self._dice.uniform(*PAUSES_S))

    async def kill_worker(self) -> None:
        """Kills a worker of a serving release."""
        workers = self._world.workers()
        if (pid := self._send(list(workers), signal.SIGKILL)) is not None:
            self._counts.kills[workers[pid]].append(time.monotonic())

    async def kill_front_door(self) -> None:
        """Kills a front door, which loses only its own connections."""
        self.front_door_kills.append(time.monotonic())
        self._send(self._world.front_doors(), signal.SIGKILL)

    async def stop_worker(self) -> None:
        """Stops a worker for a second, as if the machine had no time for it."""
        pid = self._send(list(self._world.workers()), signal.SIGSTOP)
        await asyncio.sleep(1)
        self._send([pid] if pid else [], signal.SIGCONT)

    async def swap(self) -> None:
        """Drops a newer release of a model."""
        self._world.drop(self._dice.choice(list(self._world.releases)))

    async def drop_broken(self) -> None:
        """Drops a pex that cannot load."""
        self._world.drop_broken()

    async def flood(self) -> None:
        """Sends more requests than the queue admits."""
        await self._callers.flood(FLOOD_CONNECTIONS)

    def _send(self, pids: list[int], number: signal.Signals) -> int | None:
        if not pids:
            return None
        pid = self._dice.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid
