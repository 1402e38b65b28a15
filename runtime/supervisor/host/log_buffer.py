"""The last log lines of the supervisor and of all its children, for `pexdock logs`. Runs in the supervisor.

Lines arrive through `logging`. The records of children carry `source`, `pid` and `line`; the others are the supervisor's own.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import logging
import os
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import msgspec
from packaging.utils import canonicalize_name

from base.errors import Full

SUPERVISOR = "supervisor"
LOGGER_NAMES = ("base", "runtime")
"""The loggers whose records are kept. Records of libraries are of no use to operators."""

SOURCE_MAX_BYTES = 64 * 1024
SOURCES_MAX = 64
"""Limit of sources. Releases come and go; beyond this number, the source that was silent for longest is forgotten."""

READER_MAX_BYTES = 512 * 1024
READERS_MAX = 8
_LINE_BYTES = 120
"""Approximate memory of a line in addition to its text."""


class LogLine(msgspec.Struct, frozen=True):
    """One line of the log.

    Attributes:
        time: Wall clock time in ISO format.
        source: "supervisor", "front door", or a release, such as "iris 0.1.0".
        pid: Id of the process that wrote it.
        level: Level of the record, in lower case.
        text: The line.
    """

    time: str
    source: str
    pid: int
    level: str
    text: str

    @property
    def size_bytes(self) -> int:
        """Approximate memory of the line."""
        return len(self.text) + _LINE_BYTES


def is_about_model(line: LogLine, model: str) -> bool:
    """Returns whether a line was written by a model, in any spelling of its name, or by the supervisor about that model."""
    name = canonicalize_name(model)
    if line.source != SUPERVISOR:
        return canonicalize_name(line.source.rpartition(" ")[0]) == name
    return re.match(rf"{re.escape(name)}( |:|-[0-9]|-pex)", canonicalize_name(line.text)) is not None


class LogReader:
    """A client that follows the log. If it falls too far behind, it is `lost`, so that no lines are skipped and memory does not grow.

    Attributes:
        lost: Set once the reader has fallen too far behind.
    """

    def __init__(self, wanted: Callable[[LogLine], bool]) -> None:
        self.lost = asyncio.Event()
        self._wanted = wanted
        self._loop = asyncio.get_running_loop()
        self._has_lines = asyncio.Event()
        self._lines: list[LogLine] = []
        self._size = 0

    async def wait_lines(self) -> list[LogLine]:
        """Waits for a line, and returns all lines since the last call."""
        await self._has_lines.wait()
        self._has_lines.clear()
        lines, self._lines, self._size = self._lines, [], 0
        return lines

    def push(self, line: LogLine) -> None:
        """Adds a line, from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and so is the reader
            self._loop.call_soon_threadsafe(self._append, line)

    def _append(self, line: LogLine) -> None:
        if not self._wanted(line) or self.lost.is_set():
            return
        self._size += line.size_bytes
        if self._size > READER_MAX_BYTES:
            self.lost.set()
            return
        self._lines.append(line)
        self._has_lines.set()


class _SourceLines:
    """The last lines of one source, each with its number in the order of the whole log."""

    def __init__(self) -> None:
        self.lines: deque[tuple[int, LogLine]] = deque()
        self.size_bytes = 0

    def append(self, number: int, line: LogLine) -> None:
        self.lines.append((number, line))
        self.size_bytes += line.size_bytes
        while self.size_bytes > SOURCE_MAX_BYTES and len(self.lines) > 1:
            self.size_bytes -= self.lines.popleft()[1].size_bytes


class LogBuffer(logging.Handler):
    """Keeps the last 64 KiB of each source, so that a source that logs much does not push out the lines of others."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: OrderedDict[str, _SourceLines] = OrderedDict()
        self._readers: list[LogReader] = []
        self._numbers = itertools.count()
        self._tracebacks = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Adds a record. `logging` calls this on any thread, with the handler's lock held."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        source, pid = getattr(record, "source", SUPERVISOR), getattr(record, "pid", None) or os.getpid()
        texts = [getattr(record, "line", None) or record.getMessage()]
        if record.exc_info:
            texts += self._tracebacks.formatException(record.exc_info).splitlines()
        for text in texts:
            self._append(LogLine(time, source, pid, record.levelname.lower(), text))

    def last_lines(self, count: int, wanted: Callable[[LogLine], bool]) -> list[LogLine]:
        """Returns the last `count` wanted lines, the oldest first."""
        with self._locked():
            merged = heapq.merge(*(source.lines for source in self._sources.values()))
            return list(deque((line for _, line in merged if wanted(line)), maxlen=count))

    @contextlib.contextmanager
    def follow(self, count: int, wanted: Callable[[LogLine], bool]) -> Iterator[tuple[list[LogLine], LogReader]]:
        """Yields the last lines, at most `count`, and a reader of all lines after them until the end of the block.

        Raises:
            Full: There are already too many readers.
        """
        reader = LogReader(wanted)
        with self._locked():
            if len(self._readers) >= READERS_MAX:
                raise Full(f"{READERS_MAX} clients follow the log already, which is the limit")
            self._readers.append(reader)
            before = self.last_lines(count, wanted)
        try:
            yield before, reader
        finally:
            with self._locked():
                self._readers.remove(reader)

    def _append(self, line: LogLine) -> None:
        source = self._sources.setdefault(line.source, _SourceLines())
        self._sources.move_to_end(line.source)
        source.append(next(self._numbers), line)
        if len(self._sources) > SOURCES_MAX:
            self._sources.popitem(last=False)
        for reader in self._readers:
            reader.push(line)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.acquire()
        try:
            yield
        finally:
            self.release()


@contextlib.contextmanager
def capture_logs() -> Iterator[LogBuffer]:
    """Yields a buffer of all records of level INFO and above until the end of the block, even if the log itself shows fewer."""
    buffer = LogBuffer()
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
        logger.addHandler(buffer)
    try:
        yield buffer
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(buffer)
            logger.setLevel(level)


def set_shown_level(name: str) -> None:
    """Shows records of this level and above in the log. The buffer keeps what it keeps."""
    level = logging.getLevelNamesMapping()[name.upper()]
    for handler in logging.getLogger().handlers:
        handler.setLevel(level)
    for each in LOGGER_NAMES:
        logging.getLogger(each).setLevel(min(logging.INFO, level))
