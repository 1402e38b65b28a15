"""Receives large Arrow and Parquet bodies into files, through two buffers that are written on a thread."""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import Callable

from base.errors import Full
from base.ipc.segment import Segment
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_files import TableFile

_BUFFER_BYTES = 1024**2
"""Size of each buffer. A larger one would only take memory, and for each a thread is woken."""

_READ_BYTES = 256 * 1024
"""What is read from a socket in one turn of the loop, in a tenth of a millisecond."""


class TableBody(BodyBuffer):
    """A body in a file. Afterwards, the table for a worker: the body itself, or another file that it was converted to.

    Args:
        file: The file, to which nothing was written yet; this body owns it.
        size: Length of the body; its bytes that are in the file already are whole.

    Attributes:
        on_writable: Called once `unfilled` has space again.
    """

    def __init__(self, file: TableFile, size: int) -> None:
        self._file: TableFile | None = file
        self._mapped: Segment | None = None
        self._filled = file.size
        self.size = size
        self.frame = None
        self._buffers = [bytearray(_BUFFER_BYTES) if size > file.size else bytearray() for _ in range(2)]
        self._used = 0  # bytes in the first buffer
        self._writing: asyncio.Task[None] | None = None  # the second buffer
        self._error: Full | None = None
        self.on_writable: Callable[[], None] | None = None

    @property
    def unfilled(self) -> memoryview:
        """Memory for the next bytes. Empty while the disk is behind."""
        return memoryview(self._buffers[0])[self._used : self._used + min(self.missing_bytes, _READ_BYTES)]

    def advance(self, size: int) -> None:
        """Counts bytes that were written to `unfilled`."""
        self._used += size
        self._filled += size
        if self._writing is None and (self._used == _BUFFER_BYTES or not self.missing_bytes):
            self._write()

    def append(self, piece: bytes) -> None:
        """Appends a piece, which must not be longer than `unfilled`."""
        self.unfilled[: len(piece)] = piece
        self.advance(len(piece))

    async def write(self, piece: bytes) -> None:
        """Appends a piece that is no longer than `missing_bytes`."""
        rest = memoryview(piece)
        while rest:
            while not (space := len(self.unfilled)):
                assert self._writing is not None
                await asyncio.wait([self._writing])
            self.append(bytes(rest[:space]))
            rest = rest[space:]

    async def flush(self) -> None:
        """Waits until everything is in the file.

        Raises:
            Full: It could not be written.
        """
        while self._writing is not None:
            await asyncio.wait([self._writing])
        self._buffers = []
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        self._buffers.reverse()
        size, self._used = self._used, 0
        self._writing = asyncio.get_running_loop().create_task(self._write_buffer(size))

    async def _write_buffer(self, size: int) -> None:
        file = self._file
        if file is not None and self._error is None:
            buffer = memoryview(self._buffers[1])[:size]
            file.retain()
            try:
                await file.files.run(lambda: file.append([buffer]))
            except Full as exc:
                self._error = exc
            finally:
                file.close()
        self._writing = None
        if self._used == _BUFFER_BYTES or (self._used and not self.missing_bytes):
            self._write()
        on_writable, self.on_writable = self.on_writable, None
        if on_writable is not None:
            on_writable()

    # ---- afterwards

    @property
    def file(self) -> TableFile:
        """The file."""
        assert self._file is not None
        return self._file

    @property
    def mapping(self) -> mmap.mmap:
        """The whole body, for readers. Its pages take memory until `drop_pages`."""
        return self._segment_of_file.mapping

    @property
    def body(self) -> memoryview:
        """The whole body, read-only."""
        return self._segment_of_file.memory

    @property
    def _segment_of_file(self) -> Segment:
        if self._mapped is None:
            self._mapped = self.file.map()
        return self._mapped

    def drop_pages(self) -> None:
        """Drops what was read from the memory of this process."""
        self._segment_of_file.drop_pages()

    def replace(self, file: TableFile) -> None:
        """Replaces the body by what it was converted to, and owns that."""
        self._close_file()
        self._file = file

    def hand_over(self) -> None:
        """Returns None, since its file is mapped for each worker that gets it."""

    def close(self) -> None:
        """Frees the file unless a worker has it. Idempotent."""
        self._close_file()

    def _close_file(self) -> None:
        file, self._file = self._file, None
        mapped, self._mapped = self._mapped, None
        if mapped is not None:
            mapped.close()
        if file is not None:
            file.close()
