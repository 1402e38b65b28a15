"""Reads dist/ while no supervisor runs."""

from __future__ import annotations

from pathlib import Path

from base.errors import PexRefused
from runtime.pex.file import read_pex
from runtime.pex.names import find_pexes
from runtime.supervisor.status.state import ReleaseReport, State, timestamp


def survey(dist_path: Path) -> State:
    """Returns the contents of dist/ as a state without a supervisor.

    Raises:
        OSError: dist/ cannot be read.
    """
    return State(dist_path=str(dist_path), releases=[_report_file(path) for path in find_pexes(dist_path)])


def _report_file(path: Path) -> ReleaseReport:
    try:
        pex = read_pex(path, checksums=False)
    except PexRefused as exc:
        return ReleaseReport(file=path.name, state="refused", since=timestamp(), reason=exc.detail)
    base_version = pex.stamp.base.version if pex.stamp and pex.stamp.base else ""
    return ReleaseReport(
        file=path.name,
        state="not running",
        since=timestamp(),
        kind=pex.kind,
        name=pex.name,
        version=pex.version,
        base_version=base_version,
    )
