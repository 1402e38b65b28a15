"""What a supervisor says of itself in a file, for `pexdock models` and for people. Knows how it looks, not how it comes about."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from base.errors import PexdockError, PexRefused
from base.ipc.control import Compared
from runtime.pex.file import read_pex
from runtime.supervisor.dist.settling import is_pex_name
from runtime.supervisor.host import run_dir
from runtime.supervisor.rollout.policy_store import Flip
from runtime.supervisor.rollout.probation import Probation
from runtime.text_table import aligned


class ReleaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One pex and what has become of it. `order` rises with each drop; `log` has the last lines of a worker that failed at something."""

    file: str
    order: int = 0
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


class Share(msgspec.Struct, frozen=True):
    """A release that serves, and how many of the requests it gets."""

    version: str
    sha256: str
    percent: float


class Previous(msgspec.Struct, frozen=True):
    """The release that served before and stays up until `until`, so that a roll-back takes no start."""

    version: str
    sha256: str
    until: str


class TakenBack(msgspec.Struct, frozen=True):
    """A release that does not serve until it is promoted."""

    version: str
    sha256: str
    reason: str


class Watched(msgspec.Struct, frozen=True):
    """A release in its probation."""

    version: str
    until: str
    answered: int
    failed: int
    deaths: int

    @classmethod
    def of(cls, version: str, probation: Probation) -> Watched:
        """What stands there by now."""
        return cls(version, probation.until, probation.answered, probation.failed, probation.deaths)


class Comparison(msgspec.Struct, frozen=True):
    """How the answers of the release that gets copies compare, since they were ordered or Pexdock was started; see `control.Compared`."""

    version: str
    requests: int
    equal: int
    failed: int
    skipped: int
    deviation_max: float
    ms_mean: float
    ms_copies_mean: float

    @classmethod
    def of(cls, version: str, said: Compared) -> Comparison:
        """What one front door counted."""
        each = max(1, said.requests)
        counted = (said.requests, said.equal, said.failed, said.skipped)
        return cls(version, *counted, said.deviation_max, said.ms / each, said.ms_copies / each)

    def plus(self, other: Comparison | None) -> Comparison:
        """Both together, where they are of the same release."""
        if other is None or other.version != self.version:
            return self
        requests = self.requests + other.requests
        return Comparison(
            self.version,
            requests,
            self.equal + other.equal,
            self.failed + other.failed,
            self.skipped + other.skipped,
            max(self.deviation_max, other.deviation_max),
            (self.ms_mean * self.requests + other.ms_mean * other.requests) / max(1, requests),
            (self.ms_copies_mean * self.requests + other.ms_copies_mean * other.requests) / max(1, requests),
        )


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """Where the requests of one model go, and what was said of them.

    Attributes:
        serves: the heaviest first.
        wanted: what should serve; the same as `serves` once all of it can.
        remarks: what was said and is not done now, and why; what should have been taken back and could not be.
        history: the last flip last.
    """

    name: str
    serves: list[Share] = []
    wanted: list[Share] = []
    pin: str = ""
    split: dict[str, int] = {}
    by: str = ""
    labels: dict[str, str] = {}
    shadow: str = ""
    shadow_percent: float = 0.0
    comparison: Comparison | None = None
    previous: Previous | None = None
    probation: list[Watched] = []
    taken_back: list[TakenBack] = []
    remarks: list[str] = []
    history: list[Flip] = []


class State(msgspec.Struct, frozen=True, kw_only=True):
    """All of one supervisor. `pid` is None where none runs and dist/ was merely read. `dist_reason`: what of `dist_url` cannot be had.

    `generation` is that of the newest routing table, `applied` that of the one in force in every front door: once they are the same,
    requests go where `models` says.
    """

    dist_path: str
    dist_url: str = ""
    dist_reason: str = ""
    pid: int | None = None
    address: str = ""
    admin_address: str = ""
    started: str = ""
    generation: int = 0
    applied: int = -1
    settled: bool = False
    front_door_pids: list[int] = []
    releases: list[ReleaseReport] = []
    models: list[ModelReport] = []


def now() -> str:
    """The time of the wall clock, as it stands in the file."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write(run_path: Path, state: State) -> None:
    """Replace the state file at once and whole, readable by this user alone."""
    aside = run_path / (run_dir.STATE + ".new")
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(fd, "wb") as file:  # noqa: PTH123 - a descriptor, made with its mode
        file.write(msgspec.json.format(msgspec.json.encode(state)) + b"\n")
    aside.replace(run_path / run_dir.STATE)


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
    return f"{head}\n\n{releases_as_text(state.releases)}"


def releases_as_text(releases: Sequence[ReleaseReport]) -> str:
    """One line a release; at least one."""
    rows = [("FILE", "NAME", "VERSION", "DIGEST", "STATE", "BASE", "RESTARTS", "PATHS")] + [_row(report) for report in releases]
    lines = aligned(rows)
    body = [lines[0]]
    for line, report in zip(lines[1:], releases, strict=True):
        body += [line, *_remarks(report)]
    return "\n".join(body)


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
