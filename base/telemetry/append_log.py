"""A file, or standard output, that lines are appended to. Nothing that goes wrong with it reaches those who serve."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Self

log = logging.getLogger(__name__)

STDOUT = "-"
"""The path that means the standard output."""

Lines = Callable[[], Iterable[bytes]]
"""Makes lines, each with its end."""

_CLOSE_S = 2.0
"""What is left is written by then, or never."""


class _Waiting(NamedTuple):
    lines: Lines
    weight: int


class AppendLog:
    """Writes while it is entered, on a thread of its own, since a pipe that nobody reads blocks whoever writes to it.

    A file is opened to append, and each line is one write, so that lines of several writers stay whole; it is opened again when it was
    renamed or removed. A target that cannot be written to is logged once, and tried again with each write.

    Args:
        path: of the file; "-" is the standard output, or what `stdout_fd` leads to.
        what: is written, in the plural, for the log.
        waiting_max: the weight of what may wait while a disk or the reader of a pipe is slow; more is dropped.
        stdout_fd: is duplicated when this is entered.
    """

    def __init__(self, path: str | Path, what: str, waiting_max: int, stdout_fd: int = 1) -> None:
        self._path = path
        self._what = what
        self._waiting_max = waiting_max
        self._stdout = path == STDOUT
        self._stdout_fd = stdout_fd
        self._fd = -1
        self._torn = False  # the last write ended within a line
        self._failing = False
        self._changed = threading.Condition()  # guards the next four
        self._waiting: deque[_Waiting] = deque()
        self._waiting_weight = 0
        self._dropping = False  # since it had last written all
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def __enter__(self) -> Self:
        if self._stdout and (self._stdout_fd != 1 or sys.__stdout__ is not None):  # else somebody else's file may have its number
            with contextlib.suppress(OSError):  # it is closed, which the first write finds out
                self._fd = os.dup(self._stdout_fd)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes what waits, if that does not take long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def append_lines(self, lines: Lines, weight: int) -> None:
        """Takes lines, which are made on the thread; waits for nothing. May be called from any thread."""
        with self._changed:
            full = self._waiting_weight > 0 and self._waiting_weight + weight > self._waiting_max
            told, self._dropping = self._dropping, self._dropping or full
            if not full:
                self._waiting.append(_Waiting(lines, weight))
                self._waiting_weight += weight
                self._changed.notify()
        if full and not told:
            log.error("%s are dropped: %s takes none", self._what, self._name)

    @property
    def _name(self) -> str:
        return "the standard output" if self._stdout else str(self._path)

    def _run(self) -> None:
        self._attempt(lambda: ())  # a path that is wrong is told at once
        while (lines := self._next()) is not None:
            self._attempt(lines)
        if self._fd >= 0:
            os.close(self._fd)

    def _next(self) -> Lines | None:
        """Waits for lines; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._dropping &= len(self._waiting) > 1
            lines, weight = self._waiting.popleft()
            self._waiting_weight -= weight
            return lines

    def _attempt(self, lines: Lines) -> None:
        try:
            self._reopen()
            for line in lines():
                self._append(line)
        except OSError as exc:
            if not self._failing:
                log.error("%s cannot be written to %s: %s", self._what, self._name, exc.strerror)  # noqa: TRY400 - the reason says it all
            self._failing = True
        else:
            self._failing = False

    def _reopen(self) -> None:
        """Opens the file if it is not the one that is open."""
        if self._stdout:
            return
        if self._fd >= 0 and not _is(self._fd, Path(self._path)):
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._torn = False

    def _append(self, line: bytes) -> None:
        """One write, unless the other side takes only part of it. After a part of a line that stayed one, the next begins a new line."""
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # whoever started us made it so
                _wait_writable(self._fd)
            else:
                self._torn = bool(rest)


def _wait_writable(fd: int) -> None:
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    writable.poll()


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
