"""Which requests make the next batch. Pure: knows neither time nor workers.

Requests gather in groups; only requests of one group (same endpoint, parameters and shape of rows) may share a batch. Groups take turns, so
that a busy one does not starve the others, and order within a group is kept. What is more urgent goes first, and where it leaves room in
its batch, less urgent requests of its group go with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from math import inf
from typing import Generic, Protocol, Self, TypeVar

from base.errors import Full
from base.ipc.front_door_control import Configure


class QueuedRequest(Protocol):
    """What a batcher needs to know of a request."""

    @property
    def group(self) -> Hashable:
        """Requests of equal groups may share a batch."""

    @property
    def row_count(self) -> int:
        """Its rows; 0 is possible."""

    @property
    def size_bytes(self) -> int:
        """What it takes while it waits."""

    @property
    def urgency(self) -> int:
        """0 goes before 1."""


R = TypeVar("R", bound=QueuedRequest)


@dataclass(frozen=True)
class QueueLimits:
    """What may wait for one endpoint.

    Attributes:
        max_wait_s: how long, where that is less than the time of the request.
        priorities: clients may say what goes first.
    """

    max_rows: int
    max_bytes: int
    max_wait_s: float = inf
    priorities: bool = False

    @classmethod
    def of(cls, limits: Configure) -> Self:
        """As a front door is told."""
        return cls(limits.queue_max_rows, limits.queue_max_bytes, limits.queue_max_wait_s or inf, limits.priorities)


class _Group(Generic[R]):
    """Requests of one group and one urgency, in the order of their coming, and their rows."""

    __slots__ = ("requests", "rows")

    def __init__(self) -> None:
        self.requests: dict[R, None] = {}  # a dict keeps order, and drops a cancelled request in constant time
        self.rows = 0


_Lane = OrderedDict[Hashable, _Group[R]]


class BatchQueue(Generic[R]):
    """The waiting requests of one endpoint. Bounded by rows and bytes."""

    def __init__(self, batch_max_rows: int, bounds: QueueLimits) -> None:
        self._batch_max_rows = batch_max_rows
        self._bounds = bounds
        self._lanes: dict[int, _Lane[R]] = {}  # by urgency, the most urgent first
        self._rows: dict[int, int] = {}  # of each urgency that there ever was
        self._batches: dict[int, int] = {}  # the same: how many batches at least
        self.rows = self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._lanes)

    def check_room(self, rows: int, size_bytes: int) -> None:
        """Whether so much more may wait. An empty queue takes any request.

        Raises:
            Full: with it, what waits would be over a bound.
        """
        bounds = self._bounds
        if not self._lanes:
            return
        if self.rows + rows > bounds.max_rows:
            raise Full(f"{self.rows} rows are waiting for this endpoint, and {bounds.max_rows} may; try again later")
        if self.bytes + size_bytes > bounds.max_bytes:
            raise Full(f"{self.bytes} bytes are waiting for this endpoint, and {bounds.max_bytes} may; try again later")

    @property
    def batches(self) -> int:
        """How many batches at least what waits makes."""
        return sum(self._batches.values())

    def batches_before(self, urgency: int, group: Hashable = None) -> int:
        """How many batches at least go before a request of that urgency that would come now.

        Where its group is known, others take turns with it: of each as many batches go first as of its own, and one, at most.
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

    def add(self, request: R) -> None:
        """Puts a request behind the others of its group and urgency.

        Raises:
            Full: what waits is over a bound. Nothing was added.
        """
        self.check_room(request.row_count, request.size_bytes)
        lane = self._lanes.get(request.urgency)
        if lane is None:
            lane = self._lanes[request.urgency] = OrderedDict()
            if len(self._lanes) > 1:
                self._lanes = dict(sorted(self._lanes.items()))
        group = lane.get(request.group)
        if group is None:
            group = lane[request.group] = _Group()
        group.requests[request] = None
        self._count(request.urgency, group, request.row_count, request.size_bytes)

    def take(self) -> list[R]:
        """The next batch: at most `batch_max_rows` rows, but always at least one request; empty when nothing waits."""
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
        return batch

    def take_late(self, is_late: Callable[[R], bool]) -> list[R]:
        """Takes those out that are late, at the beginning of the group whose turn it is: its batch would have room that nobody uses."""
        late: list[R] = []
        group = next((next(iter(lane)) for lane in self._lanes.values()), None)
        for lane in self._lanes.values():
            for request in lane[group].requests if group in lane else ():
                if not is_late(request):
                    break
                late.append(request)
        for request in late:
            self.remove(request)
        return late

    def remove(self, request: R) -> bool:
        """Takes a request out that nobody waits for any more; False when it is not here."""
        lane = self._lanes.get(request.urgency)
        waiting = None if lane is None else lane.get(request.group)
        if waiting is None or request not in waiting.requests:
            return False
        del waiting.requests[request]
        self._count(request.urgency, waiting, -request.row_count, -request.size_bytes)
        self._tidy(request.urgency, request.group)
        return True

    def clear(self) -> list[R]:
        """All that waits, in no particular order of groups; afterwards nothing does."""
        everything = [request for lane in self._lanes.values() for waiting in lane.values() for request in waiting.requests]
        self._lanes.clear()
        self._rows.clear()
        self._batches.clear()
        self.rows = self.bytes = 0
        return everything

    def _take_from(self, urgency: int, lane: _Lane[R], group: Hashable, batch: list[R], rows: int) -> int:
        """Adds those of this lane's requests of the group that there is room for; no room is left behind one that does not fit.

        Returns:
            The rows of the batch, with those for which no room is left.
        """
        waiting = lane.get(group)
        if waiting is None:
            return rows
        taken: list[R] = []
        before, size_bytes, full = rows, 0, False
        for request in waiting.requests:
            full = bool(batch or taken) and rows + request.row_count > self._batch_max_rows
            if full:
                break
            taken.append(request)
            rows += request.row_count
            size_bytes += request.size_bytes
        for request in taken:
            del waiting.requests[request]
        batch += taken
        self._count(urgency, waiting, before - rows, -size_bytes)
        if waiting.requests:
            lane.move_to_end(group)
        else:
            self._tidy(urgency, group)
        return self._batch_max_rows if full else rows

    def _tidy(self, urgency: int, group: Hashable) -> None:
        lane = self._lanes[urgency]
        if not lane[group].requests:
            del lane[group]
        if not lane:
            del self._lanes[urgency]

    def _count(self, urgency: int, group: _Group[R], rows: int, size_bytes: int) -> None:
        self.rows += rows
        self.bytes += size_bytes
        self._rows[urgency] = self._rows.get(urgency, 0) + rows
        most, before = self._batch_max_rows, group.rows
        group.rows += rows
        self._batches[urgency] = self._batches.get(urgency, 0) - (-group.rows // most) + (-before // most)
