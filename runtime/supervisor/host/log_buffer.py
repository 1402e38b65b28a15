"""The last lines of the supervisor and of all its children, for those who ask later and those who follow. Runs in the supervisor.

Lines come over `logging`, whose records say whose they are (`source`, `pid`, `said`); those that do not are the supervisor's own.
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
"""Loggers that are heard; libraries would fill it with what is of no use to operators."""

SOURCE_MAX_BYTES = 64 * 1024
SOURCES_MAX = 64
"""Releases come and go; of more sources, the one that was silent for longest is forgotten."""

READER_MAX_BYTES = 512 * 1024
READERS_MAX = 8
_LINE_BYTES = 120
"""What a line takes beside its text, roughly."""


class LogLine(msgspec.Struct, frozen=True):
    """One line. `source` is "supervisor", "front door", or a release, as in "iris 0.1.0"; `time` is that of the wall clock."""

    time: str
    source: str
    pid: int
    level: str
    text: str

    @property
    def size_bytes(self) -> int:
        """What it takes, roughly."""
        return len(self.text) + _LINE_BYTES


def is_about_model(line: LogLine, model: str) -> bool:
    """Whether a line is a model's own, or the supervisor's about it, by any spelling of its name."""
    name = canonicalize_name(model)
    if line.source != SUPERVISOR:
        return canonicalize_name(line.source.rpartition(" ")[0]) == name
    return re.match(rf"{re.escape(name)}( |:|-[0-9]|-pex)", canonicalize_name(line.text)) is not None


class LogReader:
    """Somebody who follows. Whoever does not keep up is `lost`, rather than that lines are left out or memory grows."""

    def __init__(self, wanted: Callable[[LogLine], bool]) -> None:
        self.lost = asyncio.Event()
        self._wanted = wanted
        self._loop = asyncio.get_running_loop()
        self._some = asyncio.Event()
        self._lines: list[LogLine] = []
        self._size = 0

    async def wait_lines(self) -> list[LogLine]:
        """All lines since the last call; waits for one."""
        await self._some.wait()
        self._some.clear()
        lines, self._lines, self._size = self._lines, [], 0
        return lines

    def push(self, line: LogLine) -> None:
        """Called on any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the reader
            self._loop.call_soon_threadsafe(self._append, line)

    def _append(self, line: LogLine) -> None:
        if not self._wanted(line) or self.lost.is_set():
            return
        self._size += line.size_bytes
        if self._size > READER_MAX_BYTES:
            self.lost.set()
            return
        self._lines.append(line)
        self._some.set()


class _Source:
    def __init__(self) -> None:
        self.lines: deque[tuple[int, LogLine]] = deque()
        self.size_bytes = 0

    def keep(self, number: int, line: LogLine) -> None:
        self.lines.append((number, line))
        self.size_bytes += line.size_bytes
        while self.size_bytes > SOURCE_MAX_BYTES and len(self.lines) > 1:
            self.size_bytes -= self.lines.popleft()[1].size_bytes


class LogBuffer(logging.Handler):
    """Keeps 64 KiB of each source. One that is chatty does not push out what another one said."""

    def __init__(self) -> None:
        super().__init__()
        self._sources: OrderedDict[str, _Source] = OrderedDict()
        self._readers: list[LogReader] = []
        self._numbers = itertools.count()
        self._traces = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        """Called by `logging`, on any thread, with the handler's lock held."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        source, pid = getattr(record, "source", SUPERVISOR), getattr(record, "pid", None) or os.getpid()
        texts = [getattr(record, "said", None) or record.getMessage()]
        if record.exc_info:
            texts += self._traces.formatException(record.exc_info).splitlines()
        for text in texts:
            self._keep(LogLine(time, source, pid, record.levelname.lower(), text))

    def last_lines(self, count: int, wanted: Callable[[LogLine], bool]) -> list[LogLine]:
        """At most `count` lines, oldest first."""
        with self._locked():
            merged = heapq.merge(*(source.lines for source in self._sources.values()))
            return list(deque((line for _, line in merged if wanted(line)), maxlen=count))

    @contextlib.contextmanager
    def follow(self, count: int, wanted: Callable[[LogLine], bool]) -> Iterator[tuple[list[LogLine], LogReader]]:
        """The last lines, at most `count`, and a reader of all that come after them until the end of the block.

        Raises:
            Full: there are too many readers already.
        """
        reader = LogReader(wanted)
        with self._locked():
            if len(self._readers) >= READERS_MAX:
                raise Full(f"{READERS_MAX} follow the log already, and more may not")
            self._readers.append(reader)
            before = self.last_lines(count, wanted)
        try:
            yield before, reader
        finally:
            with self._locked():
                self._readers.remove(reader)

    def _keep(self, line: LogLine) -> None:
        source = self._sources.setdefault(line.source, _Source())
        self._sources.move_to_end(line.source)
        source.keep(next(self._numbers), line)
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
    """A logbook that hears from now to the end of the block, be the log itself less interested."""
    book = LogBuffer()
    loggers = [logging.getLogger(name) for name in LOGGER_NAMES]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(min(logging.INFO, logger.getEffectiveLevel()))
        logger.addHandler(book)
    try:
        yield book
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(book)
            logger.setLevel(level)
