"""The faults that a soak test injects, in an order that depends on the seed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import shutil
import signal
import time

from soaking.callers import Callers
from soaking.counts import Counts
from soaking.plan import Plan
from soaking.world import World

log = logging.getLogger(__name__)

LOSS_S = 1.0
"""A connection may be lost within this time after the kill of its front door."""

LEAVE_S = 5.0
"""The same after the kill of the supervisor: its front doors notice that it is gone, and end."""

PAUSES_S = (0.3, 2.0)
"""Bounds of the pause between two faults."""

FLOOD_CONNECTIONS = 120
"""Each sends 64 rows: more than the queue of an endpoint admits."""

HANG_S = 2.0
"""Time for which a disk hangs, is full, or a process is stopped."""

KINDS = {
    "kill_worker": 4,
    "kill_front_door": 2,
    "kill_supervisor": 1,
    "restart": 1,
    "stop_worker": 2,
    "stop_front_door": 1,
    "swap": 4,
    "drop_broken": 1,
    "drop_thief": 1,
    "drop_wide": 1,
    "flood": 2,
    "remove_folder": 1,
    "fill_disk": 1,
    "hang_disk": 1,
}
"""Kind of fault → how often it is drawn."""

_OF_A_DISK = {"fill_disk", "hang_disk"}

_RESTARTS = {"kill_supervisor", "restart"}


class Mischief:
    """Injects one fault after another.

    Attributes:
        done: Time (monotonic) and kind of each fault.
        losses: Spans of time (monotonic) in which connections may be lost, since their front door was killed.
    """

    def __init__(self, world: World, callers: Callers, counts: Counts, dice: random.Random, plan: Plan) -> None:
        self._world, self._callers, self._counts, self._dice, self._plan = world, callers, counts, dice, plan
        self._kinds = [kind for kind in KINDS if (world.disk or kind not in _OF_A_DISK) and (not plan.kinds or kind in plan.kinds)]
        self.done: list[tuple[float, str]] = []
        self.losses: list[tuple[float, float]] = []

    async def run(self) -> None:
        """Injects faults until the load ends: each kind once, then at random."""
        first = list(self._kinds)
        self._dice.shuffle(first)
        while not self._plan.is_over():
            possible = [kind for kind in self._kinds if self._plan.may_restart() or kind not in _RESTARTS]
            kind = first.pop() if first else self._dice.choices(possible, [KINDS[kind] for kind in possible])[0]
            log.info("%s", kind.replace("_", " "))
            self.done.append((time.monotonic(), kind))
            await getattr(self, kind)()
            await asyncio.sleep(self._dice.uniform(*PAUSES_S))

    async def kill_worker(self) -> None:
        """Kills a worker of a serving release."""
        workers = self._world.workers()
        if (pid := self._send(list(workers), signal.SIGKILL)) is not None:
            self._counts.kills[workers[pid]].append(time.monotonic())

    async def kill_front_door(self) -> None:
        """Kills a front door, which loses only its own connections."""
        self._may_lose(LOSS_S)
        self._send(self._world.front_doors(), signal.SIGKILL)

    async def kill_supervisor(self) -> None:
        """Kills the supervisor, which takes all its processes with it, and starts another."""
        began_s = time.monotonic()
        await self._world.restart(signal.SIGKILL)
        self.losses.append((began_s, began_s + LEAVE_S))

    async def restart(self) -> None:
        """Ends the supervisor as an operator does, which loses nothing, and starts another."""
        await self._world.restart(signal.SIGTERM)

    async def stop_worker(self) -> None:
        """Stops a worker for a second, as if the machine had no time for it."""
        await self._stop(list(self._world.workers()))

    async def stop_front_door(self) -> None:
        """Stops a front door for a second; what it was asked waits."""
        await self._stop(self._world.front_doors())

    async def swap(self) -> None:
        """Drops a newer release of a model."""
        self._world.drop(self._dice.choice(list(self._world.releases)))

    async def drop_broken(self) -> None:
        """Drops a pex that cannot load."""
        self._world.drop_broken()

    async def drop_thief(self) -> None:
        """Drops a model whose path overlaps those of all others."""
        self._world.drop_thief()

    async def drop_wide(self) -> None:
        """Drops a model with thousands of columns."""
        self._world.drop_wide()

    async def remove_folder(self) -> None:
        """Removes a folder that the supervisor made, as those do who clean up temporary files."""
        folder = self._dice.choice((self._world.supervised.run_path, self._world.logs))
        shutil.rmtree(folder, ignore_errors=True)  # the supervisor may be writing to it

    async def fill_disk(self) -> None:
        """Leaves no room on the disk for a while."""
        assert self._world.disk
        await asyncio.to_thread(self._world.disk.fill)
        await asyncio.sleep(HANG_S)
        await asyncio.to_thread(self._world.disk.empty)

    async def hang_disk(self) -> None:
        """Lets the disk hang for a while, in which requests are answered."""
        assert self._world.disk
        up = await asyncio.to_thread(self._world.is_whole)
        await asyncio.to_thread(self._world.disk.hang)
        try:
            await asyncio.sleep(HANG_S / 2)
            before = self._counts.answered
            await asyncio.sleep(HANG_S / 2)
            if up and self._counts.answered == before:
                self._counts.add_fault("no request was answered while the disk did not respond")
        finally:
            await asyncio.to_thread(self._world.disk.go_on)

    async def flood(self) -> None:
        """Sends more requests than the queue admits."""
        await self._callers.flood(FLOOD_CONNECTIONS)

    def _may_lose(self, seconds: float) -> None:
        now_s = time.monotonic()
        self.losses.append((now_s, now_s + seconds))

    async def _stop(self, pids: list[int]) -> None:
        pid = self._send(pids, signal.SIGSTOP)
        await asyncio.sleep(1)
        self._send([pid] if pid else [], signal.SIGCONT)

    def _send(self, pids: list[int], number: signal.Signals) -> int | None:
        if not pids:
            return None
        pid = self._dice.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid
