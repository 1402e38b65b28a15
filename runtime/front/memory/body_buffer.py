"""Receives large Arrow bodies into segments of their own, which can be passed to a worker without a copy.

Such a segment belongs to the front door alone until the whole body is validated and sent to a worker as a batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from base.errors import Full
from base.ipc.segment import Segment, rounded_size
from runtime.front.memory.budget import MemoryBudget

BODY_BUFFER_MIN_BYTES = 1024**2
"""Size from which a copy costs more than new memory. A smaller body is read into memory that was used before."""

_ALIGNMENT_BYTES = 64


class BodyBuffer:
    """The shared memory of one body of known length, followed by the same amount of memory for the reply.

    It owns the memory until `hand_over` gives it to the slots of a worker.

    Attributes:
        size: Length of the body in bytes.
        frame: Offset and length of the record batch message in the body, if a worker can read it unchanged; None if not.
    """

    def __init__(self, segment: Segment, size: int, budget: MemoryBudget) -> None:
        self._segment: Segment | None = segment
        self._budget = budget
        self._filled = 0
        self.size = size
        self.frame: tuple[int, int] | None = None

    @classmethod
    def allocate(cls, size: int, budget: MemoryBudget) -> BodyBuffer:
        """Returns a buffer for a body of `size` bytes. Its pages take memory only when they are written.

        Raises:
            Full: the front door has no memory left for it. Nothing was reserved.
        """
        whole = rounded_size(2 * _aligned(size))
        budget.reserve_for_body(whole)
        try:
            return cls(Segment.create(whole), size, budget)
        except OSError as exc:
            budget.release(whole)
            raise Full(f"shared memory cannot be created: {exc.strerror}") from exc

    @property
    def missing_bytes(self) -> int:
        """Bytes that are still to come."""
        return self.size - self._filled

    @property
    def unfilled(self) -> memoryview:
        """The memory for the missing bytes."""
        assert self._segment is not None
        return self._segment.memory[self._filled : self.size]

    @property
    def body(self) -> memoryview:
        """The bytes that have come, read-only."""
        assert self._segment is not None
        return self._segment.memory[: self._filled].toreadonly()

    def advance(self, size: int) -> None:
        """Counts bytes that were written to `unfilled`."""
        self._filled += size

    def append(self, piece: bytes) -> None:
        """Appends a piece, which must not be longer than `missing_bytes`."""
        self.unfilled[: len(piece)] = piece
        self._filled += len(piece)

    def hand_over(self) -> tuple[Segment, int] | None:
        """Hands the segment over to another part of the budget.

        Returns:
            The segment, and the number of bytes of the body at its beginning; None if it was handed over before.
        """
        segment, self._segment = self._segment, None
        if segment is None:
            return None
        self._budget.transfer_out(segment.size)
        return segment, _aligned(self.size)

    def close(self) -> None:
        """Frees the memory unless it was handed over. Idempotent."""
        if self._segment is not None:
            self._budget.release(self._segment.size)
            self._segment.close()
            self._segment = None


@contextmanager
def closed_on_error(body: bytes | BodyBuffer) -> Iterator[None]:
    """Closes a body buffer if the block raises."""
    try:
        yield
    except BaseException:
        if isinstance(body, BodyBuffer):
            body.close()
        raise


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
