"""A streamed answer in the front door: one part at a time from the worker to the client, as NDJSON or as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from runtime.front.codecs.accept import preferred_media_type

NDJSON = b"application/x-ndjson"
EVENTS = b"text/event-stream"


def wanted(accept: str) -> bytes:
    """Returns the media type for an Accept header: server-sent events where it prefers them, else NDJSON."""
    preferred = preferred_media_type(accept, (NDJSON.decode(), EVENTS.decode()))
    return NDJSON if preferred is None else preferred.encode()


class ResponseStream:
    """The parts of one answer. Holds one part at most: the worker is asked for the next when the client has taken it.

    Args:
        media_type: NDJSON or EVENTS.
    """

    def __init__(self, media_type: bytes) -> None:
        self._events = media_type == EVENTS
        self._ready = asyncio.Event()
        self._piece = b""
        self._taken: Callable[[], None] | None = None
        self._tail = b""
        self._fresh = True  # the last piece ended with its line
        self._over = False

    def put(self, piece: bytes, taken: Callable[[], None]) -> None:
        """Bytes of NDJSON for the client, cut anywhere; `taken` is called once it has them."""
        self._piece, self._taken = self._formed(piece), taken
        self._ready.set()

    def finish(self, problem: bytes | None = None) -> None:
        """There are no more. Where that is because of a problem, its document is the last line, or the last event."""
        if problem is not None:
            border = b"" if self._fresh else b"\n\n" if self._events else b"\n"
            line = b"event: error\ndata: " + problem + b"\n\n" if self._events else b'{"error":' + problem + b"}\n"
            self._tail = border + line
        self._over = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """What the client gets next; None at the end. Asking for it says that the client has what came before."""
        if self._taken is not None and not self._piece:
            taken, self._taken = self._taken, None
            taken()
        while not self._piece and not self._over:
            self._ready.clear()
            await self._ready.wait()
        if self._piece:
            piece, self._piece = self._piece, b""
            return piece
        tail, self._tail = self._tail, b""
        return tail or None

    def _formed(self, piece: bytes) -> bytes:
        """Each line as an event. JSON has no line breaks of its own."""
        began, self._fresh = self._fresh, piece.endswith(b"\n")
        if not self._events:
            return piece
        head = b"data: " if began else b""
        if self._fresh:
            return head + piece[:-1].replace(b"\n", b"\n\ndata: ") + b"\n\n"
        return head + piece.replace(b"\n", b"\n\ndata: ")
