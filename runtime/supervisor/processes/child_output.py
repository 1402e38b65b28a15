"""Reads the output of a child process on the event loop, logs it line by line, and keeps the last lines to show with a failure."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Sequence
from typing import IO, NamedTuple

from base.log import MARK, level_of_mark, line_mark

log = logging.getLogger(__name__)

TAIL_MAX_BYTES = 64 * 1024
LINE_MAX_BYTES = 8 * 1024
"""Limit of a line. A longer line is split, so that output without line ends cannot grow without bound."""

READ_BYTES = 64 * 1024
_DRAIN_MAX_BYTES = 1024 * 1024
"""Limit of bytes that are read after the exit. A pipe holds 64 KiB, and only a process that escaped its group can continue to write."""

_LOG_BURST_BYTES, _LOG_BYTES_PER_S = 4 * 1024 * 1024, 256 * 1024
"""Rate limit of each child. A model that prints a line for each row must not fill the disk."""


class OutputLine(NamedTuple):
    """A line of a child.

    Attributes:
        text: The line, without its end and its mark.
        level: Level that the child gave it; None for output that is no log of the child, such as a print of a model.
    """

    text: str
    level: int | None = None


class LogTail:
    """Splits bytes into lines and keeps the last 64 KiB of them. Pure.

    Args:
        secret: The text in the marks of lines.
    """

    def __init__(self, secret: str = "") -> None:
        self._mark = line_mark(secret)
        # A line of the log after a print without a line end is a line of its own.
        self._before_mark = re.compile(rb"(?<=.)(?=" + self._mark.pattern + rb")", re.DOTALL)
        self._begin = MARK + secret.encode()
        self._rest = b""
        self._lines: deque[str] = deque()
        self._size = 0

    def append(self, data: bytes) -> list[OutputLine]:
        """Returns the lines that `data` completes, without their line ends. Undecodable bytes and control characters are escaped."""
        lines = (self._rest + data).split(b"\n")
        if MARK in data or MARK in self._rest[-len(self._begin) :]:  # seldom, and a model may print a gigabyte
            lines = [piece for line in lines for piece in self._before_mark.split(line)]
        *whole, rest = lines
        *begun, self._rest = self._split_long_line(rest)
        return [self._keep(piece) for line in whole for piece in self._split_long_line(line)] + [self._keep(piece) for piece in begun]

    def finish(self) -> list[OutputLine]:
        """Returns the last line if it has no line end."""
        rest, self._rest = self._rest, b""
        return [self._keep(rest)] if rest else []

    def last_lines(self, count: int) -> list[str]:
        """Returns the last `count` lines that are not empty, the oldest first."""
        return [line for line in self._lines if line.strip()][-count:]

    def _split_long_line(self, line: bytes) -> list[bytes]:
        """Returns the pieces of a line, each of which begins with the mark of the line."""
        mark = self._mark.match(line)
        begin = mark[0] if mark else b""
        starts = range(LINE_MAX_BYTES, len(line), LINE_MAX_BYTES)
        return [line[:LINE_MAX_BYTES], *(begin + line[start : start + LINE_MAX_BYTES] for start in starts)]

    def _keep(self, raw: bytes) -> OutputLine:
        mark = self._mark.match(raw)
        text = raw[mark.end() if mark else 0 :].rstrip(b"\r")
        line = _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text.decode(errors="backslashreplace"))
        self._lines.append(line)
        self._size += len(line.encode()) + 1
        while self._size > TAIL_MAX_BYTES and len(self._lines) > 1:
            self._size -= len(self._lines.popleft().encode()) + 1
        return OutputLine(line, level_of_mark(mark[0]) if mark else None)


_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")
"""Matches the characters of a line that a terminal could obey, which are all controls but the tab. They are escaped."""


class LogRateLimit:
    """A token bucket of bytes: `burst_bytes` at once, and `bytes_per_s` in the long run. Times may be of any clock. Pure."""

    def __init__(self, burst_bytes: float, bytes_per_s: float) -> None:
        self._burst = self._left = burst_bytes
        self._rate = bytes_per_s
        self._at_s = 0.0

    def allows(self, size: int, now_s: float) -> bool:
        """Returns whether `size` bytes are within the limit. If so, counts them."""
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate)
        self._at_s = now_s
        if size > self._left:
            return False
        self._left -= size
        return True


class ChildOutput:
    """Reads the output of one child from a pipe, and logs each line under the name of the child.

    Attributes:
        secret: The text in the marks of the child's lines, for its environment.
        tail: The last lines.
    """

    def __init__(self, name: str) -> None:
        self.secret = secrets.token_hex(8)
        self.tail = LogTail(self.secret)
        self._name = name
        self._pid = 0
        # What a model prints must not crowd out the log, such as the reason of a failure that a client was told to look for.
        self._rate_limits = {is_log: LogRateLimit(_LOG_BURST_BYTES, _LOG_BYTES_PER_S) for is_log in (False, True)}
        self._dropped_lines = 0

    def start(self, pipe: IO[bytes], pid: int) -> None:
        """Starts to read. This object then owns the pipe."""
        self._pipe, self._pid = pipe, pid
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read_once)

    def finish(self) -> None:
        """Reads and logs the rest of the output after the exit of the child."""
        for _ in range(_DRAIN_MAX_BYTES // READ_BYTES):
            if not self._read_once():
                break
        self._log(self.tail.finish())
        self._log_dropped_lines()

    def close(self) -> None:
        """Stops reading."""
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()

    def _read_once(self) -> bool:
        """Reads once. Returns False if no more data is available at the moment."""
        try:
            data = os.read(self._pipe.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._pipe.fileno())
        self._log(self.tail.append(data))
        return bool(data)

    def _log(self, lines: Sequence[OutputLine]) -> None:
        now_s = time.monotonic()
        for text, level in lines:
            if self._rate_limits[level is not None].allows(len(text), now_s):
                self._log_dropped_lines()
                extra = {"source": self._name, "pid": self._pid, "line": text}
                log.log(logging.INFO if level is None else level, "%s: %s", self._name, text, extra=extra)
            else:
                self._dropped_lines += 1

    def _log_dropped_lines(self) -> None:
        if self._dropped_lines:
            log.warning("%s: dropped %d lines of output, which exceeds the rate limit", self._name, self._dropped_lines)
            self._dropped_lines = 0
