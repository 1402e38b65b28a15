"""Holds the waiting requests of an endpoint, and chooses the requests of the next batch. Pure: knows neither time nor workers.

Requests wait in groups, and only requests of one group (same endpoint, parameters and shape of rows) may share a batch. Groups take turns,
so that a busy group does not starve the others, and within a group requests keep their order. More urgent requests go first. If they do not
fill their batch, less urgent requests of their group join it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, Self, TypeVar

from base.errors import Full
from base.ipc.front_door_control import Configure


class QueuedRequest(Protocol):
    """The part of a request that a queue uses."""

    @property
    def group(self) -> Hashable:
        """Requests of equal groups may share a batch."""

    @property
    def row_count(self) -> int:
        """Its rows; may be 0."""

    @property
    def size_bytes(self) -> int:
        """Memory that it takes while it waits."""

    @property
    def urgency(self) -> int:
        """0 goes before 1."""


R = TypeVar("R", bound=QueuedRequest)


@dataclass
class QueueLimits:
    """Limits of the requests to one endpoint, which all queues of a front door share.

    Attributes:
        max_wait_s: Limit of a request's wait in seconds, if that is less than the request's own time limit.
        priorities: Whether clients may set the urgency of requests.
        columns_max: Limit of the columns of a request that the endpoint does not declare.
        row_max_values: Limit of the values of a row of JSON.
        request_max_rows: Limit of the rows of a request.
        request_max_groups: Limit of the groups of a request.
        response_max_bytes: Limit of the results of one call, and of a response.
    """

    max_rows: int
    max_bytes: int
    max_wait_s: float = inf
    priorities: bool = False
    columns_max: int = Configure().columns_max
    row_max_values: int = Configure().row_max_values
    request_max_rows: int = Configure().request_max_rows
    request_max_groups: int = Configure().request_max_groups
    response_max_bytes: int = Configure().response_max_bytes

    @classmethod
    def from_configuration(cls, configure: Configure) -> Self:
        """Returns the limits in the supervisor's configuration."""
        max_wait_s = configure.queue_max_wait_s or inf
        return cls(
            configure.queue_max_rows,
            configure.queue_max_bytes,
            max_wait_s,
            configure.priorities,
            configure.columns_max,
            configure.row_max_values,
            configure.request_max_rows,
            configure.request_max_groups,
            configure.response_max_bytes,
        )

    def reconfigure(self, configure: Configure) -> None:
        """Applies the first three limits of a new configuration to requests that arrive from now on. The others stay as they are."""
        self.max_rows, self.max_bytes = configure.queue_max_rows, configure.queue_max_bytes
        self.max_wait_s = configure.queue_max_wait_s or inf


class _Group(Generic[R]):
    """The requests of one group and one urgency in order of arrival, and the number of their rows, as batches are counted by it."""

    __slots__ = ("requests", "rows")

    def __init__(self) -> None:
        self.requests: dict[R, None] = {}  # a dict keeps order, and drops a cancelled request in constant time
        self.rows = 0


_Lane = OrderedDict[Hashable, _Group[R]]


class BatchQueue(Generic[R]):
    """The waiting requests of one endpoint, limited in rows and bytes.

    Attributes:
        size: Number of waiting requests.
        rows: Number of their rows.
        bytes: Size of their memory.
    """

    def __init__(self, batch_max_rows: int, limits: QueueLimits) -> None:
        self._batch_max_rows = batch_max_rows
        self._limits = limits
        self._lanes: dict[int, _Lane[R]] = {}  # by urgency, the most urgent first
        # Waiting rows by urgency, for each urgency that ever occurred. A request that fills a batch counts as one full batch.
        self._rows: dict[int, int] = {}
        self._batches: dict[int, int] = {}  # lower bound of the waiting batches by urgency
        self.size = self.rows = self.bytes = 0

    def check_room(self, rows: int, size_bytes: int) -> None:
        """Checks that a request may wait. An empty queue takes any request.

        Raises:
            Full: a limit would be exceeded.
        """
        limits = self._limits
        if not self.size:
            return
        if self.rows + rows > limits.max_rows:
            raise Full(f"queue full: {self.rows} rows queued for this endpoint, limit {limits.max_rows}; try again later")
        if self.bytes + size_bytes > limits.max_bytes:
            raise Full(f"queue full: {self.bytes} bytes queued for this endpoint, limit {limits.max_bytes}; try again later")

    @property
    def batches(self) -> int:
        """A lower bound of the number of batches that the waiting requests need."""
        return sum(self._batches.values())

    def batches_before(self, urgency: int, group: Hashable = None) -> int:
        """Returns a lower bound of the number of batches that would go before a new request of this urgency.

        If its group is known, the other groups take turns with it: each of them sends at most one batch more than its own group before it.
        """
        if group is None:
            return sum(rows for own, rows in self._rows.items() if own <= urgency) // self._batch_max_rows
        before = sum(batches for own, batches in self._batches.items() if own < urgency)
        lane = self._lanes.get(urgency)
        if lane is None:
            return before
        own = lane.get(group)
        rows = 0 if own is None else own.rows
        mine = rows // self._batch_max_rows
        others = self._batches[urgency] + (-rows // self._batch_max_rows)
        return before + mine + min(others, (mine + 1) * (len(lane) - (own is not None)))

    def add_parts(self, parts: Sequence[R]) -> None:
        """Adds the parts of one request, in their order.

        Raises:
            Full: a limit would be exceeded. Nothing was added.
        """
        self.check_room(sum(part.row_count for part in parts), sum(part.size_bytes for part in parts))
        for part in parts:
            self.add_request(part, has_room=True)

    def add_request(self, request: R, *, has_room: bool = False) -> None:
        """Adds a request behind the others of its group and urgency.

        Args:
            request: The request.
            has_room: Whether `check_room` has admitted it.

        Raises:
            Full: a limit would be exceeded. Nothing was added.
        """
        if self.size and not has_room:
            self.check_room(request.row_count, request.size_bytes)
        urgency = request.urgency
        lane = self._lanes.get(urgency)
        if lane is None:
            lane = self._lanes[urgency] = OrderedDict()
            if len(self._lanes) > 1:
                self._lanes = dict(sorted(self._lanes.items()))
        group = lane.get(request.group)
        if group is None:
            group = lane[request.group] = _Group()
        group.requests[request] = None
        self.size += 1
        rows = request.row_count
        self.rows += rows
        max_rows = self._batch_max_rows
        self._count(urgency, group, rows if rows < max_rows else max_rows, request.size_bytes)  # noqa: FURB136 - `min` is a call

    def take_batch(self) -> list[R]:
        """Removes and returns the next batch: at most `batch_max_rows` rows, but at least one request; empty if no request waits."""
        batch: list[R] = []
        group: Hashable = None
        rows = 0
        for urgency in list(self._lanes):
            lane = self._lanes[urgency]
            if not batch:
                group = next(iter(lane))
            rows = self._take_from(urgency, lane, group, batch, rows)
            if rows >= self._batch_max_rows:
                break
        self.size -= len(batch)
        return batch

    def take_late(self, is_late: Callable[[R], bool]) -> list[R]:
        """Removes and returns late requests at the head of the group whose turn it is. Left in, they would leave its batch half empty."""
        late: list[R] = []
        group = next((next(iter(lane)) for lane in self._lanes.values()), None)
        for lane in self._lanes.values():
            for request in lane[group].requests if group in lane else ():
                if not is_late(request):
                    break
                late.append(request)
        for request in late:
            self.remove_request(request)
        return late

    def remove_request(self, request: R) -> bool:
        """Removes a request that nobody waits for any more. Returns False if it is not in the queue."""
        lane = self._lanes.get(request.urgency)
        group = None if lane is None else lane.get(request.group)
        if group is None or request not in group.requests:
            return False
        del group.requests[request]
        self.size -= 1
        self.rows -= request.row_count
        self._count(request.urgency, group, -min(request.row_count, self._batch_max_rows), -request.size_bytes)
        self._drop_if_empty(request.urgency, request.group)
        return True

    def take_all(self) -> list[R]:
        """Removes and returns all requests. Groups have no particular order."""
        everything = [request for lane in self._lanes.values() for group in lane.values() for request in group.requests]
        self._lanes.clear()
        self._rows.clear()
        self._batches.clear()
        self.size = self.rows = self.bytes = 0
        return everything

    def _take_from(self, urgency: int, lane: _Lane[R], name: Hashable, batch: list[R], rows: int) -> int:
        """Moves requests of one group and urgency into the batch. A request that does not fit closes the batch.

        Returns:
            The number of rows of the batch; `batch_max_rows` if a request that does not fit closed the batch.
        """
        group = lane.get(name)
        if group is None:
            return rows
        taken: list[R] = []
        before, size_bytes, full, counted = rows, 0, False, 0
        for request in group.requests:
            full = bool(batch or taken) and rows + request.row_count > self._batch_max_rows
            if full:
                break
            taken.append(request)
            own = request.row_count
            rows += own
            counted += own if own < self._batch_max_rows else self._batch_max_rows  # noqa: FURB136 - `min` is a call
            size_bytes += request.size_bytes
        for request in taken:
            del group.requests[request]
        batch += taken
        self.rows += before - rows
        self._count(urgency, group, -counted, -size_bytes)
        if group.requests:
            lane.move_to_end(name)
        else:
            self._drop_if_empty(urgency, name)
        return self._batch_max_rows if full else rows

    def _drop_if_empty(self, urgency: int, name: Hashable) -> None:
        lane = self._lanes[urgency]
        if not lane[name].requests:
            del lane[name]
        if not lane:
            del self._lanes[urgency]

    def _count(self, urgency: int, group: _Group[R], rows: int, size_bytes: int) -> None:
        self.bytes += size_bytes
        self._rows[urgency] = self._rows.get(urgency, 0) + rows
        max_rows, before = self._batch_max_rows, group.rows
        group.rows += rows
        self._batches[urgency] = self._batches.get(urgency, 0) - (-group.rows // max_rows) + (-before // max_rows)
