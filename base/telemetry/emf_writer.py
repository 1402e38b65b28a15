"""Writes reports of metrics as lines to a file or the standard output."""

from __future__ import annotations

import functools
from typing import Self

from base.ipc.metrics_report import MetricsReport
from base.telemetry.append_log import AppendLog
from base.telemetry.emf import Emf, emf_lines

_QUEUED_VALUES_MAX = 500_000
"""Values that may be queued, in 16 MB, while a disk or the reader of a pipe is slow; more are dropped."""


class EmfWriter:
    """Writes reports while it is entered (see `base.telemetry.append_log`).

    Args:
        emf: The path, and the namespace; None to drop all reports.
        setting: Name of the setting or parameter that has the path.
    """

    def __init__(self, emf: Emf | None, setting: str = "the path of Emf") -> None:
        self._emf = emf
        self._log = None if emf is None else AppendLog(emf.path, "metrics", setting, _QUEUED_VALUES_MAX)

    def __enter__(self) -> Self:
        if self._log is not None:
            self._log.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the queued lines, unless that takes too long."""
        if self._log is not None:
            self._log.__exit__()

    def write_report(self, report: MetricsReport) -> None:
        """Queues a report without blocking. May be called from any thread."""
        if self._log is not None and self._emf is not None:
            self._log.append_lines(functools.partial(emf_lines, report, self._emf.namespace), _weight(report))

    def reopen(self) -> None:
        """Opens the file again if it was renamed or removed, as the next report would."""
        if self._log is not None:
            self._log.reopen()


def _weight(report: MetricsReport) -> int:
    """Returns the size of a report in values; the other parts of the report count as 100 values."""
    return 100 + sum(len(values.sample) for values in report.summaries.values())
