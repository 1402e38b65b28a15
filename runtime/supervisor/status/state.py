"""What a supervisor says of itself in a file, for `pexdock models` and for people. Knows how it looks, not how it comes about."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from base.ipc.control import MirrorReport
from runtime.supervisor.rollout.policy_store import TrafficShift
from runtime.supervisor.rollout.probation import Probation


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


class TrafficShare(msgspec.Struct, frozen=True):
    """A release that serves, and how many of the requests it gets."""

    version: str
    sha256: str
    percent: float


class WarmStandby(msgspec.Struct, frozen=True):
    """The release that served before and stays up until `until`, so that a roll-back takes no start."""

    version: str
    sha256: str
    until: str


class RolledBackRelease(msgspec.Struct, frozen=True):
    """A release that does not serve until it is promoted."""

    version: str
    sha256: str
    reason: str


class ProbationReport(msgspec.Struct, frozen=True):
    """A release in its probation."""

    version: str
    until: str
    answered: int
    failed: int
    deaths: int

    @classmethod
    def of(cls, version: str, probation: Probation) -> ProbationReport:
        """What stands there by now."""
        return cls(version, probation.until, probation.answered, probation.failed, probation.deaths)


class MirrorStatus(msgspec.Struct, frozen=True):
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
    def of(cls, version: str, said: MirrorReport) -> MirrorStatus:
        """What one front door counted."""
        each = max(1, said.requests)
        counted = (said.requests, said.equal, said.failed, said.skipped)
        return cls(version, *counted, said.deviation_max, said.primary_ms / each, said.mirror_ms / each)

    def plus(self, other: MirrorStatus | None) -> MirrorStatus:
        """Both together, where they are of the same release."""
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
    serves: list[TrafficShare] = []
    wanted: list[TrafficShare] = []
    pin: str = ""
    split: dict[str, int] = {}
    by: str = ""
    labels: dict[str, str] = {}
    shadow: str = ""
    shadow_percent: float = 0.0
    comparison: MirrorStatus | None = None
    previous: WarmStandby | None = None
    probation: list[ProbationReport] = []
    taken_back: list[RolledBackRelease] = []
    remarks: list[str] = []
    history: list[TrafficShift] = []


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
