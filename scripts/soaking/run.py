"""A soak test: load and faults for a while, then quiet, then a comparison of the observations with the promises."""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from soaking.callers import Callers
from soaking.counts import Counts
from soaking.growth import Growth
from soaking.mischief import FLOOD_CONNECTIONS, Mischief
from soaking.plan import Plan
from soaking.world import PAUSES_S, World

_OTHERS = 4
"""Further clients besides the steady ones and floods: two that send invalid requests, and two slow ones."""

KNOWN_MAX = 3 * (len(PAUSES_S) + 1) + 3
"""For each model the serving release and the two before it; the release that cannot load; the one that is refused; the base."""

QUIET_S = 30.0
"""Time after the load in which all killed processes must be replaced."""


@dataclass(frozen=True)
class Report:
    """The observations as text, and the promises that were broken."""

    text: str
    broken: list[str]


async def soak(folder: Path, plan: Plan) -> Report:
    """Runs a soak test in `folder`, which is empty. No process is left afterwards."""
    with World(folder, plan.front_doors) as world:
        return await _Soak(world, dataclasses.replace(plan, start_s=time.monotonic())).run()


class _Soak:
    def __init__(self, world: World, plan: Plan) -> None:
        self._world, self._plan = world, plan
        self._counts, self._growth = Counts(), Growth()
        processes, sockets, *_ = self._resources()
        self._may_have = processes, sockets, KNOWN_MAX, 0
        # Each has a random generator of its own, so that the number of requests does not change the faults.
        callers = Callers(world, self._counts, random.Random(plan.seed + 1), plan.is_over)  # noqa: S311 - must be reproducible
        self._callers = callers
        dice = random.Random(plan.seed)  # noqa: S311
        self._mischief = Mischief(world, callers, self._counts, dice, plan)

    async def run(self) -> Report:
        callers = [self._callers.send_steadily(model) for _ in range(self._plan.connections // len(PAUSES_S)) for model in PAUSES_S]
        callers += [self._callers.send_invalid(), self._callers.send_invalid(), self._callers.send_slowly(), self._callers.send_slowly()]
        await asyncio.gather(*callers, self._mischief.run(), self._watch())
        whole = await _wait_until(self._world.is_whole, QUIET_S)
        await _wait_until(lambda: not self._left(), QUIET_S / 3)
        return self._report(whole=whole)

    async def _watch(self) -> None:
        while not self._plan.is_over():
            if not self._plan.may_restart() and self._world.is_up():
                self._growth.sample("supervisor", [self._world.supervised.process.pid])
                self._growth.sample("front doors", self._world.front_doors())
            await asyncio.sleep(0.5)

    def _resources(self) -> tuple[int, int, int, int]:
        world = self._world
        return world.processes(), world.sockets(), world.known(), world.strays()

    def _left(self) -> list[str]:
        """Returns a message for each resource that exceeds its limit."""
        names = ("processes", "files in the run directory", "releases known", "unknown releases in the cache")
        found = zip(names, self._may_have, self._resources(), strict=True)
        return [f"{now} {name}, limit {most}" for name, most, now in found if now > most]

    def _report(self, *, whole: bool) -> Report:
        counts = self._counts
        losses = self._mischief.losses
        unexcused = [at_s for at_s in counts.lost if not any(began_s <= at_s < end_s for began_s, end_s in losses)]
        bound = len(losses) * (self._plan.connections + _OTHERS + FLOOD_CONNECTIONS)
        broken = [*counts.faults, *self._growth.violations(), *self._left()]
        broken += ["not all killed processes were replaced"] * (not whole)
        broken += [f"a request lost its connection {self._before(at_s)}" for at_s in unexcused]
        if len(counts.lost) > bound:
            broken.append(f"{len(counts.lost)} requests lost their connection, which are more than the killed front doors had")
        if counts.asked != counts.answered + len(counts.lost):
            broken.append(f"{counts.asked} requests, {counts.answered} answers and {len(counts.lost)} lost connections do not add up")
        return Report("\n".join([*self._lines(), *(f"BROKEN: {each}" for each in broken)]), broken)

    def _before(self, at_s: float) -> str:
        """Returns the faults before a time."""
        done = [f"{at_s - began_s:.1f} s after {kind}" for began_s, kind in self._mischief.done if began_s <= at_s]
        return " and ".join(done[-3:])

    def _lines(self) -> list[str]:
        counts, done = self._counts, Counter(kind for _, kind in self._mischief.done)
        by_who: dict[str, dict[str, int]] = {}
        for (who, status), number in sorted(counts.statuses.items()):
            by_who.setdefault(who, {})[status] = number
        return [
            f"seed {self._plan.seed}, {self._plan.seconds:g} s, {self._plan.connections} connections, {self._plan.front_doors} front doors",
            *(["NOT DRAWN: faults of disks, since none may be mounted here"] if self._world.disk is None else []),
            "faults: " + ", ".join(f"{number} {kind.replace('_', ' ')}" for kind, number in done.items()),
            f"{counts.asked} requests, {counts.answered} answers, {len(counts.lost)} connections lost with a front door",
            *(f"  {who}: " + ", ".join(f"{number} x {status}" for status, number in found.items()) for who, found in by_who.items()),
            *self._growth.lines(),
        ]


async def _wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    end_s = time.monotonic() + within_s
    while not (found := condition()) and time.monotonic() < end_s:  # noqa: ASYNC110 - other processes send no events
        await asyncio.sleep(0.1)
    return found
