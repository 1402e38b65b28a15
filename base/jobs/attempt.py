"""One attempt at a job, as its handler sees it through `svc.Context`: reports of progress, and checkpoints for the next attempt."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from base.disk.copies import copy_durably, remove

MESSAGE_MAX_CHARACTERS = 1000
"""Length at which a handler's message is cut."""

_BURST: Final = 32
_REPORTS_PER_S: Final = 10.0


class Progress(msgspec.Struct, frozen=True):
    """A report of a handler: its progress from 0 to 1, None if it does not know, and a message for people."""

    fraction: float | None = None
    message: str = ""


class JobAttempt:
    """One attempt at a job. A handler may use it from any of its threads.

    Args:
        folder: Folder for checkpoints, which outlives the attempt.
        report: Sends a report to whoever asks about the job.

    Attributes:
        number: Counts the attempts from 1.
    """

    def __init__(self, folder: Path, number: int, report: Callable[[Progress], None]) -> None:
        self.number = number
        self._folder = folder
        self._report = report
        self._lock = threading.Lock()
        self._tokens = float(_BURST)
        self._counted_s = time.monotonic()

    def progress(self, fraction: float | None, message: str) -> None:
        """Reports progress, unless the handler has just reported a lot: then only the end is reported."""
        known = None if fraction is None or math.isnan(fraction) else min(max(float(fraction), 0.0), 1.0)
        if self._may_report() or known == 1.0:
            self._report(Progress(known, str(message)[:MESSAGE_MAX_CHARACTERS]))

    def newest_checkpoint(self) -> Path | None:
        """Returns the file or folder that was stored last, by this attempt or by one before."""
        numbers = self._stored()
        return self._folder / f"{numbers[-1]}" if numbers else None

    def store_checkpoint(self, path: Path) -> None:
        """Copies a file or a folder, so that it survives a power cut, in place of the one before.

        Raises:
            OSError: It cannot be read or written. The checkpoint before is still there.
        """
        with self._lock:
            before = self._stored()
            place = self._folder / f"{before[-1] + 1 if before else 1}"
            copy_durably(path, place, self._folder / f".{place.name}")
            for number in before:
                remove(self._folder / f"{number}")

    def _may_report(self) -> bool:
        with self._lock:
            now_s = time.monotonic()
            self._tokens = min(float(_BURST), self._tokens + (now_s - self._counted_s) * _REPORTS_PER_S)
            self._counted_s = now_s
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def _stored(self) -> list[int]:
        return sorted(int(each.name) for each in self._folder.iterdir() if each.name.isdecimal())
