"""Which requests make the next batch. Pure: knows neither time nor workers.

Requests gather in groups; only requests of one group (same endpoint, parameters and shape of rows) may share a batch. Groups take turns, so
that a busy one does not starve the others, and order within a group is kept.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, Protocol, TypeVar

from base.errors import Full


class Waiting(Protocol):
    """What a batcher needs to know of a request."""

    @property
    def group(self) -> Hashable:
        """Requests of equal groups may share a batch."""

    @property
    def row_count(self) -> int:
        """Its rows; 0 is possible."""


R = TypeVar("R", bound=Waiting)


class Batcher(Generic[R]):
    """The waiting requests of one endpoint. Bounded by rows."""

    def __init__(self, batch_max_rows: int, queue_max_rows: int) -> None:
        self._batch_max_rows = batch_max_rows
        self._queue_max_rows = queue_max_rows
        # A dict keeps order and drops a cancelled request in constant time.
        self._groups: OrderedDict[Hashable, dict[R, None]] = OrderedDict()
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, request: R) -> None:
        """Puts a request behind the others of its group.

        Raises:
            Full: rows that wait are over the bound. Nothing was added. An empty queue takes any request.
        """
        if self.rows and self.rows + request.row_count > self._queue_max_rows:
            raise Full(f"{self.rows} rows are waiting for this endpoint, and {self._queue_max_rows} may; try again later")
        self._groups.setdefault(request.group, {})[request] = None
        self.rows += request.row_count

    def take(self) -> list[R]:
        """The next batch: at most `batch_max_rows` rows, but always at least one request; empty when nothing waits."""
        if not self._groups:
            return []
        group, waiting = next(iter(self._groups.items()))
        batch: list[R] = []
        rows = 0
        for request in waiting:
            if batch and rows + request.row_count > self._batch_max_rows:
                break
            batch.append(request)
            rows += request.row_count
        for request in batch:
            del waiting[request]
        self.rows -= rows
        if waiting:
            self._groups.move_to_end(group)
        else:
            del self._groups[group]
        return batch

    def remove(self, request: R) -> bool:
        """Takes a request out that nobody waits for any more; False when it is not here."""
        waiting = self._groups.get(request.group)
        if waiting is None or request not in waiting:
            return False
        del waiting[request]
        self.rows -= request.row_count
        if not waiting:
            del self._groups[request.group]
        return True

    def clear(self) -> list[R]:
        """All that waits, in no particular order of groups; afterwards nothing does."""
        everything = [request for waiting in self._groups.values() for request in waiting]
        self._groups.clear()
        self.rows = 0
        return everything
