"""One soak: load and mischief for a while, then quiet, and then what was promised is held against what was seen."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soaking.callers import Callers
from soaking.counts import Counts
from soaking.growth import Growth
from soaking.mischief import FLOOD_CONNECTIONS, Mischief
from soaking.world import PAUSES_S, World

LOSS_S = 1.0
"""A connection that ends without an answer has the kill of a front door so long before it as its excuse."""

_OTHERS = 4
"""Clients beside those that ask without pause and beside a flood: two that send nonsense, two that are slow."""

KNOWN_MAX = 3 * len(PAUSES_S) + 2
"""Of each model the release that serves, maybe on probation, and the two that served last before it; the one that cannot load; the base."""

QUIET_S = 30.0
"""After the load all that was killed is back by then."""


@dataclass(frozen=True)
class Plan:
    """What is soaked, how long and by which seed."""

    seed: int
    seconds: float
    connections: int = 16
    front_doors: int = 2


@dataclass(frozen=True)
class Report:
    """What was seen, for people, and which promises were broken."""

    text: str
    broken: list[str]


async def soak(folder: Path, plan: Plan) -> Report:
    """Soak a Pexdock in `folder`, which is empty. Nothing of it runs afterwards."""
    with World(folder, plan.front_doors) as world:
        return await _Soak(world, plan).run()


class _Soak:
    def __init__(self, world: World, plan: Plan) -> None:
        self._world, self._plan = world, plan
        self._counts, self._growth = Counts(), Growth()
        self._end_s = time.monotonic() + plan.seconds
        processes, sockets, *_ = self._resources()
        self._may_have = processes, sockets, KNOWN_MAX, 0
        # Each has dice of its own, so that how many requests there were does not change what happens to the server.
        callers = Callers(world, self._counts, random.Random(plan.seed + 1), self._is_over)  # noqa: S311 - to be drawn again
        self._callers = callers
        self._mischief = Mischief(world, callers, self._counts, random.Random(plan.seed), self._is_over)  # noqa: S311

    def _is_over(self) -> bool:
        return time.monotonic() >= self._end_s

    async def run(self) -> Report:
        callers = [self._callers.ask_on(model) for _ in range(self._plan.connections // len(PAUSES_S)) for model in PAUSES_S]
        callers += [self._callers.ask_badly(), self._callers.ask_badly(), self._callers.ask_slowly(), self._callers.ask_slowly()]
        await asyncio.gather(*callers, self._mischief.run(), self._watch())
        whole = await _wait_until(self._world.is_whole, QUIET_S)
        await _wait_until(lambda: not self._left(), QUIET_S / 3)
        return self._report(whole=whole)

    async def _watch(self) -> None:
        while not self._is_over():
            self._growth.sample("supervisor", [self._world.supervised.process.pid])
            doors = self._world.front_doors()
            if len(doors) == self._plan.front_doors:
                self._growth.sample("front doors", doors)
            await asyncio.sleep(0.5)

    def _resources(self) -> tuple[int, int, int, int]:
        world = self._world
        return world.processes(), world.sockets(), world.known(), world.strays()

    def _left(self) -> list[str]:
        """What there is more of than there may be, in words."""
        names = ("processes", "files in the run directory", "releases known", "releases in the cache of which nobody knows")
        found = zip(names, self._may_have, self._resources(), strict=True)
        return [f"{now} {name}, where there may be {most}" for name, most, now in found if now > most]

    def _report(self, *, whole: bool) -> Report:
        counts = self._counts
        excused = [at for at in counts.lost if any(0 <= at - kill < LOSS_S for kill in self._mischief.front_door_kills)]
        bound = len(self._mischief.front_door_kills) * (self._plan.connections + _OTHERS + FLOOD_CONNECTIONS)
        broken = [*counts.faults, *self._growth.found(), *self._left()]
        broken += ["not all that was killed came back"] * (not whole)
        if len(excused) < len(counts.lost) or len(counts.lost) > bound:
            broken.append(f"{len(counts.lost)} requests lost their connection, {len(excused)} of them with a front door that was killed")
        if counts.asked != counts.answered + len(counts.lost):
            broken.append(f"{counts.asked} requests, {counts.answered} answers and {len(counts.lost)} lost connections do not add up")
        return Report("\n".join([*self._lines(), *(f"BROKEN: {each}" for each in broken)]), broken)

    def _lines(self) -> list[str]:
        counts, done = self._counts, self._mischief.done
        by_who: dict[str, dict[str, int]] = {}
        for (who, status), number in sorted(counts.statuses.items()):
            by_who.setdefault(who, {})[status] = number
        return [
            f"seed {self._plan.seed}, {self._plan.seconds:g} s, {self._plan.connections} connections, {self._plan.front_doors} front doors",
            "mishaps: " + ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in done.items()),
            f"{counts.asked} requests, {counts.answered} answers, {len(counts.lost)} connections lost with a front door",
            *(f"  {who}: " + ", ".join(f"{number} x {status}" for status, number in found.items()) for who, found in by_who.items()),
            *self._growth.lines(),
        ]


async def _wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while not (found := condition()) and time.monotonic() < end_s:  # noqa: ASYNC110 - other processes tell nothing
        await asyncio.sleep(0.1)
    return found
