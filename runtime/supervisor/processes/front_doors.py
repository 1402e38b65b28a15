"""Controls all front doors of a supervisor together, which have the same limits and the same routing table. Runs in the supervisor."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

import msgspec

from base.ipc.front_door_control import Configure, ModelStates, Route, RoutingTable
from runtime.supervisor.processes.child import Child
from runtime.supervisor.processes.front_door import FrontDoorChild, FrontDoorReport, FrontDoorStatus, FrontDoorTiming, Listeners


class FrontDoorGroup:
    """A group of front doors.

    Args:
        listeners: The bound sockets of each front door.
        limits: Limits of all front doors together; total limits are divided among them.
        timing: Delays before one is restarted, and time limits.
        on_changed: Called when one of them listens, has applied a table or has exited.
        on_report: Called with their reports.
    """

    def __init__(
        self,
        listeners: Sequence[Sequence[socket.socket]],
        limits: Configure,
        timing: FrontDoorTiming,
        on_changed: Callable[[], None],
        on_report: Callable[[FrontDoorReport], None],
    ) -> None:
        self._draining = False
        share = divide_limits(limits, len(listeners))
        self._doors = [
            FrontDoorChild(
                f"front door {i + 1}" if i else "front door", _with_others(listeners, each), share, timing, on_changed, on_report
            )
            for i, each in enumerate(listeners)
        ]

    @property
    def children(self) -> list[Child]:
        """The processes that run now."""
        return [door.child for door in self._doors if door.child is not None]

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that run now."""
        return [child.pid for child in self.children]

    @property
    def applied_generation(self) -> int:
        """Generation of the routing table that is in force in every front door that runs; -1 if one has none, or none runs."""
        return min((door.applied_generation for door in self._doors if door.child is not None), default=-1)

    def reports(self) -> list[FrontDoorStatus]:
        """Returns the states of all front doors."""
        return [door.report() for door in self._doors]

    def start(self) -> None:
        """Spawns all front doors."""
        for door in self._doors:
            door.start()

    def share_listeners(self) -> None:
        """Makes the front doors that accept clients accept those of the others, too. Call it after every change of one of them.

        The kernel gives a client to the socket of one front door, where it would wait for the restart.
        """
        waiting = [fd for door in self._doors if not door.is_accepting for fd in door.listen_fds]
        for door in self._doors:
            if door.is_accepting and not self._draining:
                door.accept_also(waiting)

    def configure(self, limits: Configure) -> None:
        """Sends changed limits to all front doors, now and after every restart."""
        for door in self._doors:
            door.configure(divide_limits(limits, len(self._doors)))

    def publish_table(self, table: RoutingTable) -> None:
        """Sends a newer routing table to all front doors, now and after every restart."""
        share = divide_failures(table, len(self._doors))
        for door in self._doors:
            door.publish_table(share)

    def publish_states(self, states: ModelStates) -> None:
        """Sends the newest states of models to all front doors, now and after every restart."""
        for door in self._doors:
            door.publish_states(states)

    def has_drained(self, generation: int) -> bool:
        """Returns whether no request can reach or wait for a worker that tables of `generation` and later no longer contain."""
        return all(door.has_drained(generation) for door in self._doors)

    def report_not_ready(self) -> None:
        """Makes all front doors report that they are not ready, and keep serving."""
        for door in self._doors:
            door.report_not_ready()

    def drain(self) -> None:
        """Makes all front doors stop accepting, finish their requests and exit. None is restarted."""
        self._draining = True
        for door in self._doors:
            door.drain()


def _name(index: int) -> str:
    return f"front door {index + 1}" if index else "front door"


def _with_others(listeners: Sequence[Sequence[socket.socket]], own: Sequence[socket.socket]) -> Listeners:
    return Listeners(own, [listener for each in listeners if each is not own for listener in each])


def divide_limits(limits: Configure, count: int) -> Configure:
    """Returns the limits of each of `count` front doors that together stay within `limits`."""
    return msgspec.structs.replace(
        limits,
        shared_memory_max_bytes=limits.shared_memory_max_bytes // count,
        table_files_max_bytes=limits.table_files_max_bytes // count,
        connections_max=max(1, limits.connections_max // count),
        queue_max_rows=max(1, limits.queue_max_rows // count),
        queue_max_bytes=max(1, limits.queue_max_bytes // count),
        jobs=None if limits.jobs is None else msgspec.structs.replace(limits.jobs, streams_max=max(1, limits.jobs.streams_max // count)),
    )


def divide_failures(table: RoutingTable, count: int) -> RoutingTable:
    """Returns the table of each of `count` front doors, which together stay within its limits of failures, rounded up."""

    def share(route: Route) -> Route:
        limit = route.failure_limit
        return route if limit is None else msgspec.structs.replace(route, failure_limit=limit.divided(count))

    return msgspec.structs.replace(table, routes=[share(route) for route in table.routes])
