"""Replies that a client is sent out of the segment in which they lie: its room is free only once the socket has taken them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from base.ipc.protocol import Flag, Reply
from runtime.front.replies import Form

if TYPE_CHECKING:
    from runtime.front.request import Request

MIN_BYTES = 1024**2
"""Smaller ones are copied, and their room is free at once."""


class Lent:
    """The bytes of one reply, as long as anybody refers to them. A connection does until it has sent them or is lost.

    Attributes:
        view: the bytes, for whoever sends them.
    """

    def __init__(self, frame: memoryview) -> None:
        owner = np.frombuffer(frame.toreadonly(), np.uint8)
        self._loop = asyncio.get_running_loop()
        self._free: Callable[[], None] | None = None
        self._alive = weakref.ref(owner, self._ended)
        self.view: memoryview | None = memoryview(owner)  # type: ignore[arg-type]  # the stubs do not know the buffer protocol

    def end(self, free: Callable[[], None]) -> bool:
        """Refers to the bytes no longer. Calls `free` when nobody does: at once, or later in the loop. Returns whether it is later."""
        self.view = None
        if self._alive() is None:
            free()
            return False
        self._free = free
        return True

    def _ended(self, _: object) -> None:
        if self._free is not None:
            self._loop.call_soon(self._free)  # whoever lets go of the bytes may be in the middle of something


def may_lend(reply: Reply, requests: Sequence[Request]) -> bool:
    """Whether a large reply is the answer of one request as it lies there."""
    alone = len(requests) == 1 and not requests[0].endpoint.words.raw
    return bool(reply.flags & Flag.SCHEMA) and alone and requests[0].form is Form.ARROW


def is_one_batch(stream: memoryview) -> bool:
    """Whether nothing else is in an Arrow stream, whose first batch was read and found right."""
    reader = pa.ipc.open_stream(pa.py_buffer(stream))
    reader.read_next_batch()
    try:
        reader.read_next_batch()
    except StopIteration:
        return True
    except (pa.ArrowException, OSError):
        pass  # it will be copied without that
    return False
