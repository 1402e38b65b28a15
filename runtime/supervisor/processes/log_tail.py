"""What a child printed last: whole lines as they come, and a bounded tail to show beside a failure. Pure."""

from __future__ import annotations

from collections import deque

TAIL_MAX_BYTES = 64 * 1024
LINE_MAX_BYTES = 8 * 1024
"""A line that is longer is cut into several, so that output without line ends cannot grow for ever."""


class LogTail:
    """Cuts bytes into lines and remembers the last 64 KiB of them."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: deque[str] = deque()
        self._size = 0

    def append(self, data: bytes) -> list[str]:
        """The lines that `data` completes, without their ends; undecodable bytes show as escapes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > LINE_MAX_BYTES:
            whole.append(self._rest[:LINE_MAX_BYTES])
            self._rest = self._rest[LINE_MAX_BYTES:]
        return [self._keep(piece) for line in whole for piece in _pieces(line)]

    def finish(self) -> list[str]:
        """The last line, where its end never came."""
        rest, self._rest = self._rest, b""
        return [self._keep(rest)] if rest else []

    def last_lines(self, lines: int) -> list[str]:
        """At most `lines` lines, oldest first, empty ones left out."""
        return [line for line in self._lines if line.strip()][-lines:]

    def _keep(self, raw: bytes) -> str:
        line = raw.rstrip(b"\r").decode(errors="backslashreplace")
        self._lines.append(line)
        self._size += len(raw) + 1
        while self._size > TAIL_MAX_BYTES and len(self._lines) > 1:
            self._size -= len(self._lines.popleft().encode(errors="replace")) + 1
        return line


def _pieces(line: bytes) -> list[bytes]:
    return [line[start : start + LINE_MAX_BYTES] for start in range(0, len(line), LINE_MAX_BYTES)] or [line]


class LogRateLimit:
    """How much of a child's output goes into the log: `burst_bytes` at once, and `bytes_a_s` in the long run. Times are of any clock."""

    def __init__(self, burst_bytes: float, bytes_a_s: float) -> None:
        self._burst = self._left = burst_bytes
        self._rate = bytes_a_s
        self._at_s = 0.0

    def allows(self, size: int, now_s: float) -> bool:
        """Whether so many bytes fit; they are spent if so."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if size > self._left:
            return False
        self._left -= size
        return True
