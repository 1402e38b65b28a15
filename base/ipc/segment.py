"""Segments: shared memory without a name, made by a front door and mapped by a worker."""

from __future__ import annotations

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
"""From here on memory is asked for in pages of 2 MiB: writing such a segment for the first time then takes half as long. Smaller ones would
take memory that nobody writes."""

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Segment:
    """One mapping of a memfd. Owned by who made it; the memory goes with the last mapping of either side.

    The size is sealed, so that neither side can shrink the file under the other, which would end that other with SIGBUS.
    """

    def __init__(self, mapping: mmap.mmap, fd: int | None) -> None:
        self._mapping = mapping
        if len(mapping) >= _HUGE_MIN_BYTES:
            _ask_for_huge_pages(mapping)
        self._fd = fd
        self.size = len(mapping)
        self.memory = memoryview(mapping)

    @classmethod
    def create(cls, size: int) -> Self:
        """A new segment of `size` bytes or a little more (see `rounded`). Its pages take memory when they are first written.

        Raises:
            OSError: no descriptor or no memory is left. Nothing was made.
        """
        size = rounded_size(size)
        fd = os.memfd_create("pexdock", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(fd, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            return cls(mmap.mmap(fd, size), fd)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def map_received(cls, fd: int, size: int) -> Self:
        """The segment behind a received descriptor, which is closed in any case.

        Raises:
            PeerError: the file is not of that size or could still shrink. Nothing stays mapped.
        """
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size != size or size == 0:
                raise PeerError(f"a segment said to have {size} bytes has {status.st_size}")
            if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK == 0:
                raise PeerError("a segment whose size is not sealed")
            return cls(mmap.mmap(fd, size), None)
        except OSError as exc:
            raise PeerError(f"a segment that cannot be mapped: {exc}") from exc
        finally:
            os.close(fd)

    @property
    def fd(self) -> int:
        """The descriptor, to be passed on. Only the maker has one."""
        if self._fd is None:
            raise ValueError("only the maker of a segment has its descriptor")
        return self._fd

    def slice_view(self, place: SegmentSlice) -> memoryview:
        """The bytes of `place`, writable.

        Raises:
            PeerError: the place does not lie inside the segment.
        """
        end = place.offset + place.length
        if place.offset < 0 or place.length < 0 or end > self.size:
            raise PeerError(f"a place of {place.length} bytes at {place.offset} in a segment of {self.size}")
        return self.memory[place.offset : end]

    def close(self) -> None:
        """Unmaps and closes. Where frames still refer to the memory, the mapping goes with the last of them."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self.memory = memoryview(b"")
        try:
            self._mapping.close()
        except BufferError:
            pass  # an Arrow buffer holds the mapping, and its end will unmap it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def rounded_size(size: int) -> int:
    """The bytes of a segment that is to have at least `size`."""
    page = _HUGE_BYTES if size >= _HUGE_MIN_BYTES else mmap.PAGESIZE
    return -(-size // page) * page


def _ask_for_huge_pages(mapping: mmap.mmap) -> None:
    try:
        mapping.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        pass  # this kernel has none for shared memory; small ones do as well
