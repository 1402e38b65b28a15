"""The access log of a front door: one line of JSON for each request that was answered or whose client disconnected.

A line has the time, client, method, path without query, status, size of the response body, milliseconds and id, and no payload. Status
`499` means that the client disconnected before its response.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from base.telemetry.append_log import AppendLog

_FLUSH_S = 0.5
_FLUSH_LINES = 256
_PATH_MAX_BYTES = 2048
_WRITE_BYTES = 4096
"""Size of an atomic write to a pipe (PIPE_BUF). Larger writes could be mixed with those of another front door."""

_QUEUED_MAX_BYTES = 16 * 1024 * 1024


class AccessLogLine(msgspec.Struct, frozen=True):
    """The entry of a request. `ms` is the time from its head, or from its complete body, to the last byte given to the connection."""

    time: str
    client: str
    method: str
    path: str
    status: int
    bytes: int
    ms: float
    id: str


class StartedRequest:
    """A request that is not answered yet.

    Args:
        client: Address of the client as uvicorn represents it.
        method: Method of the request.
        path: Path in its canonical form, without the query.
    """

    __slots__ = ("began_s", "client", "method", "path")

    def __init__(self, client: tuple[str, int] | None, method: str, path: bytes) -> None:
        self.client = "" if client is None else f"{client[0]}:{client[1]}"
        self.method = method
        self.path = path[:_PATH_MAX_BYTES].decode("latin-1")
        self.began_s = time.monotonic()


class AccessLog:
    """Buffers lines and passes them on in groups. Runs in the loop's thread; no timer runs while the buffer is empty.

    Args:
        write: Takes lines without blocking.

    Attributes:
        reopen: Opens the file again if it was renamed or removed, as the next line would.
    """

    def __init__(self, write: Callable[[list[bytes]], None], reopen: Callable[[], None]) -> None:
        self._write = write
        self.reopen = reopen
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._date = -1, ""

    def _timestamp(self, time_s: float) -> str:
        """Returns a time in ISO 8601. Caches the text of the last second."""
        second = int(time_s)
        if second != self._second:
            self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
        return f"{self._date}.{int(time_s % 1 * 1000):03d}+00:00"

    def flush(self) -> None:
        """Passes on the buffered lines."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write(lines)

    def log_request(self, request: StartedRequest, request_id: str, status: int, size_bytes: int) -> None:
        """Logs a request that was answered with a body of `size_bytes`."""
        took_s = time.monotonic() - request.began_s
        began = self._timestamp(time.time() - took_s)
        ms = round(took_s * 1000, 3)
        line = AccessLogLine(began, request.client, request.method, request.path, status, size_bytes, ms, request_id)
        self._lines.append(msgspec.json.encode(line) + b"\n")
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)


@contextlib.contextmanager
def open_access_log(path: str | None, stdout_fd: int) -> Iterator[AccessLog | None]:
    """Yields the access log; None without a path.

    Args:
        path: Path of a file; "-" for `stdout_fd`.
        stdout_fd: Standard output of the parent process. This process's own standard output is a pipe to the parent.
    """
    if path is None:
        yield None
        return
    with AppendLog(path, "lines of the access log", "access_log_path", _QUEUED_MAX_BYTES, stdout_fd) as file:
        access_log = AccessLog(lambda lines: file.append_lines(lambda: _joined(lines), sum(map(len, lines))), file.reopen)
        try:
            yield access_log
        finally:
            access_log.flush()


def _joined(lines: list[bytes]) -> Iterator[bytes]:
    """Yields whole lines, joined up to the size of an atomic write."""
    joined = b""
    for line in lines:
        if joined and len(joined) + len(line) > _WRITE_BYTES:
            yield joined
            joined = b""
        joined += line
    yield joined
