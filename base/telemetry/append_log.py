"""Appends lines to a file or to the standard output, on a thread. Its failures never affect requests."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Self

from base.log import get_logger

log = get_logger(__name__)

STDOUT = "-"
"""The path that means the standard output."""

MakeLines = Callable[[], Iterable[bytes]]
"""Makes lines, each with its line end."""

_CLOSE_S = 2.0
"""Time limit for writing the queued lines at the end; lines that are left after it are lost."""


class _QueuedLines(NamedTuple):
    make_lines: MakeLines
    weight: int


class AppendLog:
    """Appends lines while it is entered, on a thread of its own, since a pipe that nobody reads blocks its writer.

    Each line is one write to a file that is open for appending, so that lines of several writers stay whole. The file is opened again after
    it was renamed or removed, and its folder is made again. An error is logged once, and every later write tries again.

    Args:
        path: Path of the file; "-" is what `stdout_fd` leads to.
        what: Name of the lines in log messages, in the plural.
        setting: Name of the setting or parameter that has the path, for the same messages.
        weight_max: Total weight of lines that may be queued while a disk or the reader of a pipe is slow; more are dropped.
        stdout_fd: Descriptor of the standard output, or of the standard error, 2; duplicated when this is entered.
    """

    def __init__(self, path: str | Path, what: str, setting: str, weight_max: int, stdout_fd: int = 1) -> None:
        self._path = path
        self._what = what
        self._setting = setting
        self._weight_max = weight_max
        self._stdout = path == STDOUT
        self._stdout_fd = stdout_fd
        self._fd = -1
        self._torn = False  # the last write ended within a line
        self._was_open = False
        self._failing = False
        self._changed = threading.Condition()  # guards the next four
        self._queue: deque[_QueuedLines] = deque()
        self._queued_weight = 0
        self._dropping = False  # lines were dropped since the queue was last empty
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def __enter__(self) -> Self:
        was_closed = {1: sys.__stdout__, 2: sys.__stderr__}.get(self._stdout_fd, self) is None  # its number may be of another file now
        if self._stdout and not was_closed:
            with contextlib.suppress(OSError):  # it is closed; the first write reports that
                self._fd = os.dup(self._stdout_fd)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the queued lines, unless that takes too long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def append_lines(self, make_lines: MakeLines, weight: int) -> None:
        """Queues lines, which the thread makes and writes. Never blocks; may be called from any thread."""
        with self._changed:
            full = self._queued_weight > 0 and self._queued_weight + weight > self._weight_max
            logged, self._dropping = self._dropping, self._dropping or full
            if not full:
                self._queue.append(_QueuedLines(make_lines, weight))
                self._queued_weight += weight
                self._changed.notify()
        if full and not logged:
            log.error("%s are dropped: %s does not accept them fast enough", self._what, self._name)

    def reopen(self) -> None:
        """Opens the file again if it was renamed or removed, as the next line would. Never blocks; may be called from any thread."""
        self.append_lines(lambda: (), 0)

    @property
    def _name(self) -> str:
        standard = "the standard error" if self._stdout_fd == 2 else "the standard output"
        return standard if self._stdout else str(self._path)

    def _run(self) -> None:
        self._write(lambda: ())  # reports a wrong path at once
        while (make_lines := self._next()) is not None:
            self._write(make_lines)
        if self._fd >= 0:
            os.close(self._fd)

    def _next(self) -> MakeLines | None:
        """Waits for lines; returns None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            if not self._queue:
                return None
            self._dropping &= len(self._queue) > 1
            make_lines, weight = self._queue.popleft()
            self._queued_weight -= weight
            return make_lines

    def _write(self, make_lines: MakeLines) -> None:
        try:
            self._reopen()
            for line in make_lines():
                self._append(line)
                self._failing = False
        except OSError as exc:
            if not self._failing:
                remedy = f"correct this, or change {self._setting}"
                log.error("%s cannot be written to %s: %s; %s", self._what, self._name, exc.strerror, remedy)  # noqa: TRY400 - the reason is enough
            self._failing = True

    def _reopen(self) -> None:
        """Opens the file unless it is already open."""
        if self._stdout:
            return
        if self._fd >= 0 and not _is_same_file(self._fd, Path(self._path)):
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            folder = Path(self._path).parent
            if self._was_open and not folder.exists():  # a folder that was missing from the beginning is a mistake in the path
                folder.mkdir(parents=True, exist_ok=True)
                log.warning("%s was removed and has been made again for %s", folder, self._what)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            self._torn, self._was_open = False, True

    def _append(self, line: bytes) -> None:
        """Writes a line in one write, unless the other side accepts only part of it. Begins a new line after one that stayed incomplete."""
        rest = memoryview(b"\n" + line if self._torn else line)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # the process that started this one made the descriptor non-blocking
                _wait_writable(self._fd)
            else:
                self._torn = bool(rest)


def _wait_writable(fd: int) -> None:
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    writable.poll()


def _is_same_file(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
