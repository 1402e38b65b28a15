"""The access log of a front door: one line of JSON for each request that was answered, or whose client hung up.

A line holds no payload: when the request came, who sent it, method, path without query, status, bytes of the body, milliseconds, id. `499`
stands for a client that was gone before its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec

from base.telemetry.append_log import AppendLog

CLIENT_GONE = 499
"""No status of HTTP, but the one that nginx writes, which whoever reads such logs knows."""

_FLUSH_S = 0.5
_FLUSH_LINES = 256
_PATH_MAX_BYTES = 2048
_PIECE_BYTES = 4096
"""What a pipe takes at once (PIPE_BUF): more could be torn by what another front door writes."""

_WAITING_MAX_BYTES = 16 * 1024 * 1024


class AccessLogLine(msgspec.Struct, frozen=True):
    """One request. `ms` is from its head, or from when it was whole, to the last byte that was given to the connection."""

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
        client: its address, as uvicorn has it.
        path: as it came over the wire, perhaps with a query, which is left out.
    """

    __slots__ = ("began_s", "client", "method", "path")

    def __init__(self, client: tuple[str, int] | None, method: str, path: bytes) -> None:
        self.client = "" if client is None else f"{client[0]}:{client[1]}"
        self.method = method
        self.path = path.partition(b"?")[0][:_PATH_MAX_BYTES].decode("latin-1")
        self.began_s = time.monotonic()


class AccessLog:
    """Gathers lines and hands them over some at a time. Everything runs in the loop's thread; no timer runs while there is nothing to say.

    Args:
        write: takes lines, and waits for nothing.
    """

    def __init__(self, write: Callable[[list[bytes]], None]) -> None:
        self._write = write
        self._lines: list[bytes] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second, self._date = -1, ""

    def _said(self, moment_s: float) -> str:
        """A point in time; up to its second it is mostly that of the request before."""
        second = int(moment_s)
        if second != self._second:
            self._second, self._date = second, datetime.fromtimestamp(second, UTC).isoformat().removesuffix("+00:00")
        return f"{self._date}.{int(moment_s % 1 * 1000):03d}+00:00"

    def flush(self) -> None:
        """Hands over what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._write(lines)

    def log_request(self, begun: StartedRequest, request_id: str, status: int, size: int) -> None:
        """A request is answered with a body of so many bytes."""
        took_s = time.monotonic() - begun.began_s
        line = AccessLogLine(
            self._said(time.time() - took_s), begun.client, begun.method, begun.path, status, size, round(took_s * 1000, 3), request_id
        )
        self._lines.append(msgspec.json.encode(line) + b"\n")
        if len(self._lines) >= _FLUSH_LINES:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_S, self.flush)


@contextlib.contextmanager
def access_log(path: str | None, stdout_fd: int) -> Iterator[AccessLog | None]:
    """The access log while it is entered; None without a path.

    Args:
        path: of a file; "-" is what `stdout_fd` leads to.
        stdout_fd: the standard output of whoever started this process, whose own is a pipe to it.
    """
    if path is None:
        yield None
        return
    with AppendLog(path, "lines of the access log", _WAITING_MAX_BYTES, stdout_fd) as appended:
        found = AccessLog(lambda lines: appended.append_lines(lambda: _pieces(lines), sum(map(len, lines))))
        try:
            yield found
        finally:
            found.flush()


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """As many whole lines at once as may be written at once."""
    piece = b""
    for line in lines:
        if piece and len(piece) + len(line) > _PIECE_BYTES:
            yield piece
            piece = b""
        piece += line
    yield piece
