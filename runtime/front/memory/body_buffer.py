"""Large Arrow bodies on their way: into segments of their own, which a worker can be given as they are.

Such a segment belongs to the front door alone until the whole body was looked at and a worker is told of it with its batch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from base.errors import Full
from base.ipc.segment import Segment, rounded
from runtime.front.memory.slots import Budget

if TYPE_CHECKING:
    from runtime.front.http.connection import Connection
    from runtime.front.requests.request import Asked

MIN_BYTES = 1024**2
"""From here on a copy costs more than new memory. A smaller body lies in memory that was written before."""

_ALIGNMENT = 64


class Arrival:
    """The memory of one body of known length. Its owner, until `adopt` gives it to a worker's rooms.

    Attributes:
        frame: where in the body a record batch message lies that is the endpoint's as it stands, and how long it is; None where none does.
    """

    def __init__(self, segment: Segment, size: int, budget: Budget) -> None:
        self._segment: Segment | None = segment
        self._budget = budget
        self._filled = 0
        self._size = size
        self.frame: tuple[int, int] | None = None

    @classmethod
    def begin(cls, size: int, budget: Budget) -> Arrival:
        """Memory for a body of `size` bytes, and as much behind it for the answer. Its pages take memory when they are written.

        Raises:
            Full: the front door has no memory left for it. Nothing was taken.
        """
        whole = rounded(2 * room_bytes(size))
        budget.take_for_arrival(whole)
        try:
            return cls(Segment.make(whole), size, budget)
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
def closing_unless_done(body: bytes | Arrival) -> Iterator[None]:
    """Whatever fails within gives back a body's own memory."""
    try:
        yield
    except BaseException:
        if isinstance(body, Arrival):
            body.close()
        raise


def room_bytes(size: int) -> int:
    """What lies behind so many bytes begins here."""
    return -(-size // _ALIGNMENT) * _ALIGNMENT


class Arriving:
    """A request of the fast path whose body is not yet whole; a large one of Arrow goes to memory of its own."""

    __slots__ = ("arrival", "asked", "body", "body_bytes", "keep_alive", "missing")

    def __init__(self, asked: Asked, body_bytes: int, arrival: Arrival | None, *, keep_alive: bool) -> None:
        self.asked = asked
        self.body_bytes = self.missing = body_bytes
        self.arrival = arrival
        self.keep_alive = keep_alive
        self.body: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """The next piece of the body."""
        self.missing -= len(piece)
        if self.arrival is None:
            self.body.append(piece)
        else:
            self.arrival.write(piece)

    def whole(self) -> bytes | Arrival:
        """The body."""
        if self.arrival is not None:
            return self.arrival
        return self.body[0] if len(self.body) == 1 else b"".join(self.body)

    def drop(self) -> None:
        """It will never be whole."""
        if self.arrival is not None:
            self.arrival.close()


class Receiver(asyncio.BufferedProtocol):
    """Reads the rest of a body from a connection's socket into its memory, and is the transport's protocol meanwhile.

    Args:
        connection: hears of all else that happens.
        whole: called when nothing is missing any more.
    """

    def __init__(self, connection: Connection, arrival: Arrival, whole: Callable[[], None]) -> None:
        self._connection = connection
        self._arrival = arrival
        self._whole = whole

    def get_buffer(self, _: int) -> memoryview:
        """Where the socket is read to."""
        return self._arrival.rest

    def buffer_updated(self, size: int) -> None:
        """So much was read."""
        self._arrival.came(size)
        self._connection.heard(size)
        if not self._arrival.missing:
            self._connection.transport.set_protocol(self._connection)
            self._whole()

    def eof_received(self) -> bool | None:
        """The body will never be whole."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nor will it now."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read the answers to what it asked before."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It reads again."""
        self._connection.resume_writing()
