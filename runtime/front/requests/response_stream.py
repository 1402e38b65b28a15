"""Streams a response part by part: from the worker, as NDJSON, as server-sent events, or as the handler yields it; or from a file."""

from __future__ import annotations

import asyncio
import logging
import weakref
from collections.abc import Callable
from functools import partial

from base.ipc.release_spec import EndpointSpec
from runtime.front.codecs import media_types
from runtime.front.codecs.accept import preferred_media_type
from runtime.front.memory.table_files import TableFile

log = logging.getLogger(__name__)

NDJSON = b"application/x-ndjson"
EVENTS = b"text/event-stream"
ARROW = media_types.ARROW.encode()


def stream_media_type(accept: str, spec: EndpointSpec) -> bytes:
    """Returns the media type of a response: that of the endpoint, or server-sent events or Arrow if the client prefers it, else NDJSON."""
    if spec.media_type:
        return spec.media_type.encode()
    offered = (NDJSON.decode(), EVENTS.decode(), *([ARROW.decode()] if spec.tables else []))
    preferred = preferred_media_type(accept, offered)
    return NDJSON if preferred is None else preferred.encode()


def streams_arrow(accept: str, spec: EndpointSpec) -> bool:
    """Returns whether the worker must send the parts of a response as Arrow."""
    return spec.streams and not spec.media_type and stream_media_type(accept, spec) == ARROW


class ResponseStream:
    """The parts of one response. Holds at most one part, and requests the next one when the client has taken it.

    Args:
        events: The lines of NDJSON become events.
        opaque: The parts are bytes of any other media type, such as Arrow, and are sent as they are.

    Attributes:
        is_cut: True if the response ends early: a media type that is not known has no place for a problem document.
    """

    def __init__(self, *, events: bool = False, opaque: bool = False) -> None:
        self.is_cut = False
        self._events = events
        self._opaque = opaque
        self._ready = asyncio.Event()
        self._piece = b""
        self._on_taken: Callable[[], None] | None = None
        self._tail = b""
        self._at_line_start = True
        self._finished = False

    def put(self, piece: bytes, on_taken: Callable[[], None]) -> None:
        """Adds bytes, which may end in the middle of a line. Calls `on_taken` once the client has them."""
        self._piece, self._on_taken = piece if self._opaque else self._formatted(piece), on_taken
        self._ready.set()

    def finish(self, problem: bytes | None = None) -> None:
        """Ends the stream, with a problem document, if any, as the last line or event; an opaque stream is cut instead."""
        if problem is not None and self._opaque:
            self.is_cut = True
        elif problem is not None:
            border = b"" if self._at_line_start else b"\n\n" if self._events else b"\n"
            line = b"event: error\ndata: " + problem + b"\n\n" if self._events else b'{"error":' + problem + b"}\n"
            self._tail = border + line
        self._finished = True
        self._ready.set()

    async def next(self) -> bytes | None:
        """Returns the next part; None at the end. The call confirms that the client has the previous part."""
        if self._on_taken is not None and not self._piece:
            on_taken, self._on_taken = self._on_taken, None
            on_taken()
        while not self._piece and not self._finished:
            self._ready.clear()
            await self._ready.wait()
        if self._piece:
            piece, self._piece = self._piece, b""
            return piece
        tail, self._tail = self._tail, b""
        return tail or None

    def _formatted(self, piece: bytes) -> bytes:
        """Converts NDJSON to the stream's media type. Each line becomes an event, since encoded JSON contains no line breaks."""
        at_line_start, self._at_line_start = self._at_line_start, piece.endswith(b"\n")
        if not self._events:
            return piece
        head = b"data: " if at_line_start else b""
        if self._at_line_start:
            return head + piece[:-1].replace(b"\n", b"\n\ndata: ") + b"\n\n"
        return head + piece.replace(b"\n", b"\n\ndata: ")


class FileStream(ResponseStream):
    """A body in a file, which is closed with the last reference to this object. A slow client holds the file, and a part of it in memory.

    Args:
        file: The file, which this object owns.

    Attributes:
        size: Size of the body in bytes.
    """

    def __init__(self, file: TableFile) -> None:
        super().__init__(opaque=True)
        self._file = file
        self._position = 0
        self.size = file.size
        weakref.finalize(self, file.close).atexit = False

    async def next(self) -> bytes | None:
        """Returns the next part; None at the end, or if the file cannot be read."""
        if self._position == self.size:
            return None
        try:
            piece = await self._file.files.run(partial(self._file.read, self._position, _FILE_PART_BYTES))
        except OSError as exc:
            log.error("cannot read a response: %s", exc)  # noqa: TRY400 - the operating system's reason is enough
            piece = b""
        self.is_cut = not piece
        self._position += len(piece)
        return piece or None


_FILE_PART_BYTES = 256 * 1024
