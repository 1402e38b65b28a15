"""Files for tables that are too large for memory. They have no name, so that nothing is left of them when the process ends."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import TypeVar

from base.errors import Full
from base.ipc.front_door_control import Configure
from base.ipc.segment import Segment
from runtime.blocking import BlockingThreads

T = TypeVar("T")


class TableFiles:
    """The files of a front door.

    Args:
        limits: Limits of the front door.

    Attributes:
        file_min_bytes: Size from which a body is kept in a file.
        table_max_bytes: Limit of a body.
    """

    def __init__(self, limits: Configure) -> None:
        self._folder = limits.table_files_path or tempfile.gettempdir()
        self._max_bytes = limits.table_files_max_bytes
        self.file_min_bytes = limits.table_file_min_bytes
        self.table_max_bytes = max(limits.table_max_bytes, limits.body_max_bytes)
        self._used_bytes = 0
        self._lock = threading.Lock()
        self._disk = BlockingThreads(1, f"scratch_path ({self._folder})")

    @property
    def expanded_max_bytes(self) -> int:
        """Limit of what a body may expand to."""
        return 2 * self.table_max_bytes

    async def run(self, call: Callable[[], T]) -> T:
        """Runs a call that uses the disk on a thread, and returns or raises its result."""
        return await self._disk.run(call)

    def reserve(self, size: int) -> None:
        """Reserves bytes. Thread-safe, as `release` is.

        Raises:
            Full: The limit would be exceeded. Nothing was reserved.
        """
        with self._lock:
            if self._used_bytes + size > self._max_bytes:
                free = self._max_bytes - self._used_bytes
                raise Full(f"out of space for tables: {size} bytes needed, {free} free of table_files_max_bytes; try again later")
            self._used_bytes += size

    def release(self, size: int) -> None:
        """Releases reserved bytes."""
        with self._lock:
            self._used_bytes -= size

    def create(self, size: int = 0) -> TableFile:
        """Returns a new file, of which `size` bytes are reserved from the start. Uses the disk.

        Raises:
            Full: The limit would be exceeded, or there can be no file.
        """
        self.reserve(size)
        try:
            file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - the table file owns it
        except OSError as exc:
            self.release(size)
            raise self.unusable(exc) from exc
        with file:
            return TableFile(self, os.dup(file.fileno()), size)

    def adopt(self, fd: int) -> TableFile:
        """Returns a whole file that has a name elsewhere, and whose space counts there. Owns the descriptor."""
        file = TableFile(self, fd, 0)
        file.size = os.fstat(fd).st_size
        return file

    def unusable(self, error: OSError) -> Full:
        """Returns the error for a client whose table cannot be stored."""
        return Full(f"a table cannot be stored in {self._folder}: {error.strerror}; free disk space, set scratch_path, or try again later")


class TableWriter(io.RawIOBase):
    """Appends to a file what Arrow's writers write.

    Args:
        file: The file.
    """

    def __init__(self, file: TableFile) -> None:
        self._file = file

    def writable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the number of bytes that were written."""
        return self._file.size

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        """Appends bytes. Raises as `TableFile.append`."""
        self._file.append([data])
        return len(data)


class TableFile:
    """A file that is written once, and then only mapped. It is closed with its last mapping of this process.

    Attributes:
        files: All files of the front door.
        size: Number of written bytes.
    """

    def __init__(self, files: TableFiles, fd: int, reserved_bytes: int) -> None:
        self.files = files
        self.size = 0
        self._fd = fd
        self._reserved_bytes = reserved_bytes
        self._users = 1  # the owner, and also each mapping
        self._lock = threading.Lock()

    def append(self, pieces: Sequence[bytes | memoryview]) -> None:
        """Appends bytes. Uses the disk.

        Raises:
            Full: There is no space for them.
        """
        for piece in pieces:
            missing = self.size + len(piece) - self._reserved_bytes
            if missing > 0:
                self.files.reserve(missing)
                self._reserved_bytes += missing
            rest = memoryview(piece).cast("B")
            while rest:
                try:
                    written = os.write(self._fd, rest)
                except OSError as exc:
                    raise self.files.unusable(exc) from exc
                rest = rest[written:]
                self.size += written

    def read(self, start: int, size: int) -> bytes:
        """Returns bytes from `start` on, at most `size`. Uses the disk.

        Raises:
            OSError: They cannot be read.
        """
        return os.pread(self._fd, size, start)

    @property
    def path(self) -> str:
        """A path by which this process can open the file."""
        return f"/proc/self/fd/{self._fd}"

    def map(self) -> Segment:
        """Returns a mapping of the whole file, which must not be empty. Its descriptor only reads, and may be given to a worker.

        Raises:
            Full: No descriptor or no memory is left.
        """
        try:
            segment = Segment.map_file(os.open(self.path, os.O_RDONLY | os.O_CLOEXEC), self.size)
        except OSError as exc:
            raise self.files.unusable(exc) from exc
        self.retain()
        weakref.finalize(segment.mapping, self.close).atexit = False
        return segment

    def retain(self) -> None:
        """Begins another use of the file, which `close` ends."""
        with self._lock:
            self._users += 1

    def close(self) -> None:
        """Ends the use by the owner, or another one. The last one frees the space, on a thread, since that takes long."""
        with self._lock:
            self._users -= 1
            is_last = not self._users
        if is_last:
            threading.Thread(target=self._free, daemon=True).start()

    def _free(self) -> None:
        os.close(self._fd)
        self.files.release(self._reserved_bytes)
