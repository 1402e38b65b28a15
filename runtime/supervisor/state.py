"""What a supervisor says of itself in a file, for `pexdock models` and for people. Knows how it looks, not how it comes about."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from base.errors import PexdockError, PexRefused
from runtime.columns import aligned
from runtime.pex.file import read_pex
from runtime.supervisor import rundir
from runtime.supervisor.registry import is_pex_name


class ReleaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One pex and what has become of it. `log` holds the last lines of a worker that did not do as it should."""

    file: str
    state: str
    since: str
    kind: str = ""
    name: str = ""
    version: str = ""
    sha256: str = ""
    base_version: str = ""
    reason: str = ""
    log: list[str] = []
    warnings: list[str] = []
    paths: list[str] = []
    worker_pids: list[int] = []
    restarts: int = 0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of one supervisor. `pid` is None where none runs and dist/ was merely read. `dist_reason`: what of `dist_url` cannot be had."""

    dist_path: str
    dist_url: str = ""
    dist_reason: str = ""
    pid: int | None = None
    address: str = ""
    started: str = ""
    generation: int = 0
    settled: bool = False
    front_door_pids: list[int] = []
    releases: list[ReleaseReport] = []


def now() -> str:
    """The time of the wall clock, as it stands in the file."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(run_path: Path, state: State) -> None:
    """Replace the state file at once and whole, readable by this user alone."""
    aside = run_path / (rundir.STATE + ".new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, made with its mode
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    aside.replace(run_path / rundir.STATE)


def read(run_path: Path, dist_path: Path) -> State:
    """The state of the supervisor that runs on `run_path`; without one, what `dist_path` holds.

    Raises:
        PexdockError: the state file cannot be read.
    """
    pid = rundir.holder(run_path)
    if pid is None:
        return survey(dist_path)
    try:
        return msgspec.json.decode((run_path / rundir.STATE).read_bytes(), type=State)
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


def as_table(state: State) -> str:
    """What people read: who runs, then one line a release, with its reason and its worker's last lines below it."""
    if state.pid is None:
        head = f"no supervisor runs on {state.dist_path}; start one with `pexdock serve`"
    else:
        head = f"supervisor {state.pid} serves {state.dist_path} at {state.address or '(not bound yet)'}"
    if state.dist_url:
        head += f"\n{state.dist_path} follows {state.dist_url}" + (f", but for this: {state.dist_reason}" if state.dist_reason else "")
    if not state.releases:
        return f"{head}\n\nno pex in {state.dist_path}"
    rows = [("FILE", "NAME", "VERSION", "DIGEST", "STATE", "BASE", "RESTARTS", "PATHS")] + [_row(report) for report in state.releases]
    lines = aligned(rows)
    body = [lines[0]]
    for line, report in zip(lines[1:], state.releases, strict=True):
        body += [line, *_remarks(report)]
    return "\n".join([head, "", *body])


def _row(report: ReleaseReport) -> tuple[str, ...]:
    paths = " ".join(report.paths)
    return (
        report.file,
        report.name or "-",
        report.version or "-",
        report.sha256[:8] or "-",
        report.state,
        report.base_version or "-",
        str(report.restarts),
        paths or "-",
    )


def _remarks(report: ReleaseReport) -> list[str]:
    reason = [f"    {report.reason}"] if report.reason else []
    return reason + [f"    | {line}" for line in report.log] + [f"    warning: {warning}" for warning in report.warnings]
