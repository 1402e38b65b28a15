"""All front doors of a supervisor, as one: they have the same limits and the same table. Runs in the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import msgspec

from base.backoff import Backoff
from base.ipc.control import Configure, RoutingTable
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_door import FrontDoorChild, FrontDoorReport


class FrontDoorGroup:
    """One front door for each listener.

    Args:
        limits: of all of them together: what is bounded in total is divided among them.
        changed: called when one of them listens, has applied a table or has died.
        report: takes what they measured and counted.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        limits: Configure,
        backoff: Backoff,
        changed: Callable[[], None],
        report: Callable[[FrontDoorReport], None],
    ) -> None:
        share = divide_limits(limits, len(listeners))
        self._doors = [
            FrontDoorChild(f"front door {i + 1}" if i else "front door", each, share, backoff, changed, report)
            for i, each in enumerate(listeners)
        ]

    @property
    def children(self) -> list[Child]:
        """Those that run now."""
        return [door.child for door in self._doors if door.child is not None]

    @property
    def pids(self) -> list[int]:
        """Of the processes that run now."""
        return [child.pid for child in self.children]

    @property
    def applied_generation(self) -> int:
        """The generation of the table that is in force in each that runs; -1 where none has any."""
        return min((door.applied_generation for door in self._doors if door.child is not None), default=-1)

    def start(self) -> None:
        """Spawn all."""
        for door in self._doors:
            door.start()

    def publish_table(self, table: RoutingTable) -> None:
        """Give all a newer table, now and after every restart."""
        for door in self._doors:
            door.publish_table(table)

    def has_drained(self, generation: int) -> bool:
        """Whether no request can come any more, through any of them, over what a table of `generation` or later does not name."""
        return all(door.has_drained(generation) for door in self._doors)

    def report_not_ready(self) -> None:
        """Have all say that they are not ready, and go on."""
        for door in self._doors:
            door.report_not_ready()

    def drain(self) -> None:
        """Tell all to take nothing new, finish and go. None is started again."""
        for door in self._doors:
            door.drain()


def divide_limits(limits: Configure, count: int) -> Configure:
    """What each of `count` front doors may hold, so that all of them hold no more than `limits` allow."""
    return msgspec.structs.replace(
        limits,
        shared_memory_max_bytes=limits.shared_memory_max_bytes // count,
        connections_max=max(1, limits.connections_max // count),
        queue_max_rows=max(1, limits.queue_max_rows // count),
        queue_max_bytes=max(1, limits.queue_max_bytes // count),
    )
