"""Segments: shared memory without a name, or a file without one, created by a front door and mapped by a worker."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import stat
from types import TracebackType
from typing import Self

from base.errors import PeerError
from base.ipc.protocol import SegmentSlice

_HUGE_BYTES = 2 * 1024**2
_HUGE_MIN_BYTES = 16 * 1024**2
"""From this size on, a segment asks for pages of 2 MiB, which halves the time of the first write. A smaller segment would waste memory."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """One mapping of a memfd, or of a file. The memory is freed with the last mapping of either side.

    The size of a memfd is sealed, so that neither side can shrink the file: SIGBUS would then kill the other side. A file on disk cannot be
    sealed, so a worker gets a descriptor of it that only reads.

    Attributes:
        mapping: The mapping.
        size: Length in bytes.
        memory: The whole mapping; read-only if it is of a file.
    """

    def __init__(self, mapping: mmap.mmap, fd: int | None) -> None:
        self.mapping = mapping
        self._fd = fd
        self.size = len(mapping)
        self.memory = memoryview(mapping)

    @classmethod
    def create(cls, size: int) -> Self:
        """Creates a segment of at least `size` bytes (see `rounded_size`). Its pages take memory when they are first written.

        Raises:
            OSError: No descriptor or no memory is left. Nothing was created.
        """
        size = rounded_size(size)
        fd = os.memfd_create("pexdock", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(_map_memory(fd, size), fd)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def map_file(cls, fd: int, size: int) -> Self:
        """Maps a file that nobody writes any more, to be read. Owns the descriptor, which must be a read-only one.

        Raises:
            OSError: No memory is left for the mapping. The descriptor is closed.
        """
        try:
            return cls(mmap.mmap(fd, size, prot=mmap.PROT_READ), fd)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def map_received(cls, fd: int, size: int) -> Self:
        """Maps the segment of a received descriptor, and closes the descriptor in any case.

        Raises:
            PeerError: The file has another size or could still be changed by this process and shrink. Nothing is mapped.
        """
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size or size == 0:
                raise PeerError(f"a segment was announced with {size} bytes but has {status.st_size}")
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
                return cls(mmap.mmap(fd, size, prot=mmap.PROT_READ), None)
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK == 0:
                raise PeerError("the size of a segment is not sealed")
            return cls(_map_memory(fd, size), None)
        except OSError as exc:
            raise PeerError(f"cannot map a segment: {exc}") from exc
        finally:
            os.close(fd)

    @property
    def fd(self) -> int:
        """Returns the descriptor, to send it to another process. Only the creator has one."""
        if self._fd is None:
            raise ValueError("only the creator of a segment has its descriptor")
        return self._fd

    def slice_view(self, place: SegmentSlice) -> memoryview:
        """Returns the memory of a slice, writable.

        Raises:
            PeerError: The slice is not inside the segment.
        """
        end = place.offset + place.length
        if place.offset < 0 or place.length < 0 or end > self.size:
            raise PeerError(f"a slice of {place.length} bytes at {place.offset} is not inside a segment of {self.size}")
        return self.memory[place.offset : end]

    def drop_pages(self) -> None:
        """Drops the pages from the memory of this process. They stay in the file, from which they are mapped again when they are read."""
        self.mapping.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Unmaps and closes. If frames still refer to the memory, it is unmapped with the last of them. Idempotent."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.memory = memoryview(b"")
        try:
            self.mapping.close()
        except BufferError:
            pass  # an Arrow buffer holds the mapping, which is unmapped when the buffer is freed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def rounded_size(size: int) -> int:
    """Returns the length in bytes of a segment for at least `size` bytes."""
    page = _HUGE_BYTES if size >= _HUGE_MIN_BYTES else mmap.PAGESIZE
    return -(-size // page) * page


def _map_memory(fd: int, size: int) -> mmap.mmap:
    mapping = mmap.mmap(fd, size)
    if size >= _HUGE_MIN_BYTES:
        with contextlib.suppress(OSError):  # this kernel has no huge pages for shared memory; small pages work as well
            mapping.madvise(mmap.MADV_HUGEPAGE)
    return mapping
