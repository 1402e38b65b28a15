"""Writes reports of metrics as lines to a file or the standard output."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Self

from base.ipc.metrics_report import MetricsReport
from base.telemetry.append_log import AppendLog
from base.telemetry.emf import Emf, emf_lines

_QUEUED_VALUES_MAX = 500_000
"""Values that may be queued, in 16 MB, while a disk or the reader of a pipe is slow; more are dropped."""


class EmfWriter:
    """Writes reports while it is entered (see `base.telemetry.append_log`).

    Args:
        emf: The path, and the namespace.
        setting: Name of the setting or parameter that has the path.
    """

    def __init__(self, emf: Emf, setting: str = "the path of Emf") -> None:
        self._namespace = emf.namespace
        self._log = AppendLog(emf.path, "metrics", setting, _QUEUED_VALUES_MAX)

    def __enter__(self) -> Self:
        self._log.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes the queued lines, unless that takes too long."""
        self._log.__exit__()

    def write_report(self, report: MetricsReport) -> None:
        """Queues a report without blocking. May be called from any thread."""
        self._log.append_lines(functools.partial(emf_lines, report, self._namespace), _weight(report))


@contextlib.contextmanager
def report_writer(emf: Emf | None, setting: str = "the path of Emf") -> Iterator[Callable[[MetricsReport], None]]:
    """Yields a function that writes reports from any thread without blocking. Without `emf` it drops them."""
    if emf is None:
        yield _drop_report
        return
    with EmfWriter(emf, setting) as writer:
        yield writer.write_report


def _drop_report(_: MetricsReport) -> None:
    pass


def _weight(report: MetricsReport) -> int:
    """Returns the size of a report in values; the other parts of the report count as 100 values."""
    return 100 + sum(len(values.sample) for values in report.summaries.values())
