"""Reads dist/ and the state file when no supervisor answers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from base.errors import PexdockError, PexRefused
from runtime.pex.file import read_pex
from runtime.pex.names import is_pex_name
from runtime.supervisor.host import run_dir
from runtime.supervisor.status import ReleaseReport, State, now


def read(run_path: Path, dist_path: Path) -> State:
    """The state of the supervisor that runs on `run_path`; without one, what `dist_path` holds.

    Raises:
        PexdockError: the state file cannot be read.
    """
    pid = run_dir.holder(run_path)
    if pid is None:
        return survey(dist_path)
    try:
        return msgspec.json.decode((run_path / run_dir.STATE).read_bytes(), type=State)
    except FileNotFoundError:
        return State(dist_path=str(dist_path), pid=pid)  # it has only just started, or is about to be gone
    except (OSError, msgspec.MsgspecError) as exc:
        raise PexdockError(f"the state of pid {pid} cannot be read: {exc}") from exc


def survey(dist_path: Path) -> State:
    """What lies in dist/, while nothing runs."""
    files = sorted(path for path in dist_path.iterdir() if is_pex_name(path.name)) if dist_path.is_dir() else []
    return State(dist_path=str(dist_path), releases=[_survey_one(path) for path in files])


def _survey_one(path: Path) -> ReleaseReport:
    try:
        pex = read_pex(path, checksums=False)
    except PexRefused as exc:
        return ReleaseReport(file=path.name, state="refused", since=now(), reason=exc.detail)
    base_version = pex.stamp.base.version if pex.stamp and pex.stamp.base else ""
    return ReleaseReport(
        file=path.name, state="not running", since=now(), kind=pex.kind, name=pex.name, version=pex.version, base_version=base_version
    )
