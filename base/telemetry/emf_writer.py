"""Where reports of metrics become lines."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Self

from base.ipc.control import MetricsReport
from base.telemetry.append_log import AppendLog
from base.telemetry.emf import Emf, emf_lines

_VALUES_MAX = 500_000
"""That may wait while a disk or the reader of a pipe is slow, in 16 MB; more are dropped."""


class EmfWriter:
    """Writes reports while it is entered, see `base.telemetry.append_log`."""

    def __init__(self, emf: Emf) -> None:
        self._namespace = emf.namespace
        self._appended = AppendLog(emf.path, "metrics", _VALUES_MAX)

    def __enter__(self) -> Self:
        self._appended.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Writes what waits, if that does not take long."""
        self._appended.__exit__()

    def write_report(self, measures: MetricsReport) -> None:
        """Takes a report; waits for nothing. May be called from any thread."""
        self._appended.append_lines(functools.partial(emf_lines, measures, self._namespace), _weight(measures))


@contextlib.contextmanager
def report_writer(emf: Emf | None) -> Iterator[Callable[[MetricsReport], None]]:
    """What takes reports while it is entered, from any thread; it waits for nothing. Without `emf` it does nothing with them."""
    if emf is None:
        yield lambda _: None
        return
    with EmfWriter(emf) as emf_log:
        yield emf_log.write_report


def _weight(measures: MetricsReport) -> int:
    """In values; the rest of a report takes some memory, too."""
    return 100 + sum(len(values.sample) for values in measures.summaries.values())
