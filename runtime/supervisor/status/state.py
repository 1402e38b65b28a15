"""The state of a supervisor as data, which `pexdock models --json`, the state file and the admin API show.

A field whose JSON name differs from its Python name keeps the JSON name of Pexdock 0.1.0.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from base.ipc.front_door_control import MirrorReport
from runtime.supervisor.processes.front_door import FrontDoorStatus
from runtime.supervisor.rollout.policy_record import TrafficShift
from runtime.supervisor.rollout.probation import Probation


class ReleaseReport(msgspec.Struct, frozen=True, kw_only=True):
    """One file of dist/ and the state of its release.

    Attributes:
        order: Position in the sequence of drops.
        since: Wall clock time of the last change of state.
        reason: Explanation of the state.
        log: Last lines of a worker that failed.
        worker_pids, job_worker_pids: Process ids of workers that run now, and of those for jobs.
        restarts: Number of worker restarts.
    """

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
    job_worker_pids: list[int] = []


class TrafficShare(msgspec.Struct, frozen=True):
    """A release that serves, and its share of the requests."""

    version: str
    sha256: str
    percent: float


class WarmStandby(msgspec.Struct, frozen=True):
    """The release that served before and stays up until `until`, so that a rollback need not start it."""

    version: str
    sha256: str
    until: str


class RolledBackRelease(msgspec.Struct, frozen=True):
    """A release that does not serve until it is promoted."""

    version: str
    sha256: str
    reason: str


class ProbationReport(msgspec.Struct, frozen=True):
    """A release on probation, and its counts so far."""

    version: str
    until: str
    answered: int
    failed: int
    crash_count: int = msgspec.field(name="deaths")

    @classmethod
    def of(cls, version: str, probation: Probation) -> ProbationReport:
        """Returns the report of a probation."""
        return cls(version, probation.until, probation.answered, probation.failed, probation.crash_count)


class MirrorStatus(msgspec.Struct, frozen=True):
    """Comparison of mirrored responses with the responses to clients, since the mirror was set or Pexdock started.

    Attributes:
        requests: Number of requests that both releases answered.
        equal: Number of these requests with equal status and values.
        failed: Number of mirrored requests that failed while the client received a response.
        skipped: Number of requests that were not mirrored because the release was too busy.
        deviation_max: Largest difference between two numbers at the same position.
        primary_ms_mean: Mean time of the responses that clients received, in ms.
        mirror_ms_mean: Mean time of the mirrored responses, in ms.
    """

    version: str
    requests: int
    equal: int
    failed: int
    skipped: int
    deviation_max: float
    primary_ms_mean: float = msgspec.field(name="ms_mean")
    mirror_ms_mean: float = msgspec.field(name="ms_copies_mean")

    @classmethod
    def from_report(cls, version: str, report: MirrorReport) -> MirrorStatus:
        """Returns the counts of one report of a front door."""
        each = max(1, report.requests)
        counts = (report.requests, report.equal, report.failed, report.skipped)
        return cls(version, *counts, report.deviation_max, report.primary_ms / each, report.mirror_ms / each)

    def combined_with(self, other: MirrorStatus | None) -> MirrorStatus:
        """Returns the sum of both; only this one if the other is about another release."""
        if other is None or other.version != self.version:
            return self
        requests = self.requests + other.requests
        return MirrorStatus(
            self.version,
            requests,
            self.equal + other.equal,
            self.failed + other.failed,
            self.skipped + other.skipped,
            max(self.deviation_max, other.deviation_max),
            (self.primary_ms_mean * self.requests + other.primary_ms_mean * other.requests) / max(1, requests),
            (self.mirror_ms_mean * self.requests + other.mirror_ms_mean * other.requests) / max(1, requests),
        )


class ModelReport(msgspec.Struct, frozen=True, kw_only=True):
    """The traffic of one model, and the orders of operators about it.

    Attributes:
        state: Its state (`runtime.model_state`).
        reason: Explanation of the state.
        serving: The releases that serve, with the highest weight first.
        desired: The releases that should serve; equal to `serving` once all of them can.
        pin, split, by, labels, shadow, shadow_percent: The traffic policy.
        shadow_sha256: Digest of the release that should get mirrored requests.
        shadow_in_force: Whether that release gets them by the newest routing table.
        mirror: Comparison of mirrored responses.
        warm_standby: The previous release while it stays up.
        remarks: Orders that are not in effect, and rollbacks that were not possible, with their reasons.
        history: Traffic shifts, with the latest last.
    """

    name: str
    state: str = ""
    reason: str = ""
    serving: list[TrafficShare] = msgspec.field(default_factory=list, name="serves")
    desired: list[TrafficShare] = msgspec.field(default_factory=list, name="wanted")
    pin: str = ""
    split: dict[str, int] = {}
    by: str = ""
    labels: dict[str, str] = {}
    shadow: str = ""
    shadow_percent: float = 0.0
    shadow_sha256: str = ""
    shadow_in_force: bool = False
    mirror: MirrorStatus | None = msgspec.field(default=None, name="comparison")
    warm_standby: WarmStandby | None = msgspec.field(default=None, name="previous")
    probation: list[ProbationReport] = []
    rolled_back: list[RolledBackRelease] = msgspec.field(default_factory=list, name="taken_back")
    remarks: list[str] = []
    history: list[TrafficShift] = []


class State(msgspec.Struct, frozen=True, kw_only=True):
    """The state of one supervisor. Once `applied_generation` equals `generation`, requests are routed as `models` describes.

    Attributes:
        dist_reason: Reason why the object store at `dist_url` cannot be mirrored; empty if it can.
        pid: Process id; None if no supervisor runs and dist/ was only read.
        address: The first of `addresses`, at which clients on this machine reach the front doors.
        generation: Generation of the newest routing table.
        applied_generation: Generation of the table that all front doors have applied; -1 if none has.
        waits_for: Models that are not ready and that `/readyz` waits for, by the setting `readiness`.
        startup_complete: Whether every file that was in dist/ at the start is ready or refused.
    """

    dist_path: str
    dist_url: str = ""
    dist_reason: str = ""
    pid: int | None = None
    address: str = ""
    addresses: list[str] = []
    admin_address: str = ""
    started: str = ""
    generation: int = 0
    applied_generation: int = msgspec.field(default=-1, name="applied")
    startup_complete: bool = msgspec.field(default=False, name="settled")
    waits_for: list[str] = []
    front_door_pids: list[int] = []
    front_doors: list[FrontDoorStatus] = []
    releases: list[ReleaseReport] = []
    models: list[ModelReport] = []


def timestamp(offset_s: float = 0.0) -> str:
    """Returns the wall clock time in `offset_s` seconds, in the format of the state."""
    return (datetime.now(UTC) + timedelta(seconds=offset_s)).isoformat(timespec="seconds")
