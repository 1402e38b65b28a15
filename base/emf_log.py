"""The file, or standard output, that lines of metrics are appended to. Nothing that goes wrong with it reaches those who serve."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from base.emf import STDOUT, Emf, lines
from base.ipc.control import Measures

log = logging.getLogger(__name__)

_VALUES_MAX = 500_000
"""That may wait while a disk or the reader of a pipe is slow, in 16 MB; more are dropped."""

_CLOSE_S = 2.0
"""What is left is written by then, or never."""


class EmfLog:
    """Writes reports while it is entered, on a thread of its own, since a pipe that nobody reads blocks whoever writes to it.

    A file is opened to append, and each line is one write, so that lines of several writers stay whole; it is opened again when it was
    renamed or removed. A target that cannot be written to is logged once, and tried again with each report.
    """

    def __init__(self, emf: Emf) -> None:
        self._emf = emf
        self._stdout = emf.path == STDOUT
        self._fd = -1
        self._torn = False  # the last write ended within a line
        self._failing = False
        self._changed = threading.Condition()  # guards the next four
        self._waiting: deque[Measures] = deque()
        self._waiting_values = 0
        self._dropping = False  # since it had last written all
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="emf", daemon=True)

    def __enter__(self) -> Self:
        if self._stdout and sys.__stdout__ is not None:  # else somebody else's file may have its number
            with contextlib.suppress(OSError):  # it is closed, which the first write finds out
                self._fd = os.dup(1)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes what waits, if that does not take long."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)

    def write(self, measures: Measures) -> None:
        """Takes a report; waits for nothing. May be called from any thread."""
        with self._changed:
            full = self._waiting_values > 0 and self._waiting_values + _weight(measures) > _VALUES_MAX
            told, self._dropping = self._dropping, self._dropping or full
            if not full:
                self._waiting.append(measures)
                self._waiting_values += _weight(measures)
                self._changed.notify()
        if full and not told:
            log.error("metrics are dropped: %s takes none", self._name)

    @property
    def _name(self) -> str:
        return "the standard output" if self._stdout else str(self._emf.path)

    def _run(self) -> None:
        self._attempt(None)  # a path that is wrong is told at once
        while (measures := self._next()) is not None:
            self._attempt(measures)
        if self._fd >= 0:
            os.close(self._fd)

    def _next(self) -> Measures | None:
        """Waits for a report; None when there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._dropping &= len(self._waiting) > 1
            measures = self._waiting.popleft()
            self._waiting_values -= _weight(measures)
            return measures

    def _attempt(self, measures: Measures | None) -> None:
        try:
            self._reopen()
            for line in () if measures is None else lines(measures, self._emf.namespace):
                self._append(line)
        except OSError as exc:
            if not self._failing:
                log.error("metrics cannot be written to %s: %s", self._name, exc.strerror)  # noqa: TRY400 - the reason says it all
            self._failing = True
        else:
            self._failing = False

    def _reopen(self) -> None:
        """Opens the file if it is not the one that is open."""
        if self._stdout:
            return
        if self._fd >= 0 and not _is(self._fd, Path(self._emf.path)):
            os.close(self._fd)
            self._fd = -1
        if self._fd < 0:
            self._fd = os.open(self._emf.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
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


@contextlib.contextmanager
def reports_to(emf: Emf | None) -> Iterator[Callable[[Measures], None]]:
    """What takes reports while it is entered, from any thread; it waits for nothing. Without `emf` it does nothing with them."""
    if emf is None:
        yield lambda _: None
        return
    with EmfLog(emf) as emf_log:
        yield emf_log.write


def _weight(measures: Measures) -> int:
    """In values; the rest of a report takes some memory, too."""
    return 100 + sum(len(values.sample) for values in measures.values.values())


def _wait_writable(fd: int) -> None:
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    writable.poll()


def _is(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except OSError:
        return False
