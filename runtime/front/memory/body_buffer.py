"""Large Arrow bodies on their way: into segments of their own, which a worker can be given as they are.

Such a segment belongs to the front door alone until the whole body was looked at and a worker is told of it with its batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from base.errors import Full
from base.ipc.segment import Segment, rounded_size
from runtime.front.memory.budget import MemoryBudget

if TYPE_CHECKING:
    pass

MIN_BYTES = 1024**2
"""From here on a copy costs more than new memory. A smaller body lies in memory that was written before."""

_ALIGNMENT = 64


class BodyBuffer:
    """The memory of one body of known length. Its owner, until `adopt` gives it to a worker's rooms.

    Attributes:
        frame: where in the body a record batch message lies that is the endpoint's as it stands, and how long it is; None where none does.
    """

    def __init__(self, segment: Segment, size: int, budget: MemoryBudget) -> None:
        self._segment: Segment | None = segment
        self._budget = budget
        self._filled = 0
        self._size = size
        self.frame: tuple[int, int] | None = None

    @classmethod
    def begin(cls, size: int, budget: MemoryBudget) -> BodyBuffer:
        """Memory for a body of `size` bytes, and as much behind it for the answer. Its pages take memory when they are written.

        Raises:
            Full: the front door has no memory left for it. Nothing was taken.
        """
        whole = rounded_size(2 * room_bytes(size))
        budget.take_for_arrival(whole)
        try:
            return cls(Segment.create(whole), size, budget)
        except OSError as exc:
            budget.give_back(whole)
            raise Full(f"no shared memory could be made: {exc.strerror}") from exc

    @property
    def missing(self) -> int:
        """How many bytes are still to come."""
        return self._size - self._filled

    @property
    def rest(self) -> memoryview:
        """Where they are to be written."""
        assert self._segment is not None
        return self._segment.memory[self._filled : self._size]

    @property
    def body(self) -> memoryview:
        """All that has come; nobody writes to it any more."""
        assert self._segment is not None
        return self._segment.memory[: self._filled].toreadonly()

    def came(self, size: int) -> None:
        """So many bytes were written to the `rest`."""
        self._filled += size

    def write(self, piece: bytes) -> None:
        """The next piece, which is no longer than what is missing."""
        self.rest[: len(piece)] = piece
        self._filled += len(piece)

    def adopt(self) -> tuple[Segment, int] | None:
        """Hands over the segment, for another part of the budget to adopt, and how much of it is the body's; None where it was before."""
        segment, self._segment = self._segment, None
        if segment is None:
            return None
        self._budget.disown(segment.size)
        return segment, room_bytes(self._size)

    def close(self) -> None:
        """Gives the memory back, unless it was handed over. Safe to call again."""
        if self._segment is not None:
            self._budget.give_back(self._segment.size)
            self._segment.close()
            self._segment = None


@contextmanager
def closing_unless_done(body: bytes | BodyBuffer) -> Iterator[None]:
    """Whatever fails within gives back a body's own memory."""
    try:
        yield
    except BaseException:
        if isinstance(body, BodyBuffer):
            body.close()
        raise


def room_bytes(size: int) -> int:
    """What lies behind so many bytes begins here."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT
