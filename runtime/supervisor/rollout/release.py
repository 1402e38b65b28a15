"""The data of one release on which decisions are based. Pure: knows no process, clock or file."""

from __future__ import annotations

from dataclasses import dataclass, field

from packaging.version import Version

from base.ipc.release_spec import ReleaseSpec
from runtime.state_machine import Machine
from runtime.supervisor.rollout.release_state import RELEASE_STEPS, VERIFIED, ReleaseAction, ReleaseEvent, ReleaseState


@dataclass(frozen=True)
class Identity:
    """The identity of a pex: its kind (model or base), name, version and digest."""

    kind: str
    name: str
    version: str
    sha256: str


def _new_machine() -> Machine[ReleaseState, ReleaseEvent, ReleaseAction]:
    return Machine(RELEASE_STEPS, ReleaseState.VERIFYING)


@dataclass(eq=False)
class Release:
    """A release of a model, or a base. It has more attributes than other classes, because it is the plain data that all decisions need.

    Attributes:
        file: Name of its file in dist/.
        order: Position in the sequence of drops. If two releases conflict, the lower order wins.
        spec: Description that its latest ready worker sent, or its first worker before it was ready.
        was_ready: Whether a worker has been ready since the release was last started.
        crash_count: Number of workers that crashed since it was last started, before any was ready.
        keeps_failing: Whether it failed so often before it was ready that no model waits for its paths any more.
        pending_workers: Number of workers that are not ready yet since the last start, while none has crashed. It takes over at 0.
        warm_standby: Whether it served before and stays up for a while without requests, for a rollback.
        on_probation: Whether it is on probation.
        has_jobs: Whether jobs run on it, which end there although it gets no more requests.
        in_place: Whether `file` is in dist/ and still has this content.
        replaced_by: The release with the present content of `file`, if that is another release.
        contended: Whether it is refused only because it conflicts with another release.
        awaits: Releases whose paths must be known before it may serve with its own; empty if it may serve.
        reason: Explanation of its state for people.
    """

    file: str
    order: int
    machine: Machine[ReleaseState, ReleaseEvent, ReleaseAction] = field(default_factory=_new_machine)
    identity: Identity | None = None
    spec: ReleaseSpec | None = None
    was_ready: bool = False
    crash_count: int = 0
    keeps_failing: bool = False
    pending_workers: int = 0
    warm_standby: bool = False
    on_probation: bool = False
    has_jobs: bool = False
    in_place: bool = True
    replaced_by: Release | None = None
    contended: bool = False
    awaits: str = ""
    reason: str = ""

    @property
    def state(self) -> ReleaseState:
        """Returns its state."""
        return self.machine.state

    @property
    def title(self) -> str:
        """Returns the name for people: `iris 0.1.0`, or the file name before the version is known."""
        return f"{self.identity.name} {self.identity.version}" if self.identity else self.file

    @property
    def is_model(self) -> bool:
        """Returns whether it is known to be a model."""
        return self.identity is not None and self.identity.kind == "model"

    @property
    def serves(self) -> bool:
        """Returns whether it may receive requests, even if its workers are down at the moment."""
        return self.state is ReleaseState.RUNNING and self.was_ready and not self.awaits

    @property
    def can_take_over(self) -> bool:
        """Returns whether it may take over the requests of the serving release."""
        return self.serves and not self.pending_workers

    @property
    def name(self) -> str:
        """Returns the normalized name of its model; empty until it is known."""
        return self.identity.name if self.identity else ""

    @property
    def sha256(self) -> str:
        """Returns the digest of its content; empty until it is known."""
        return self.identity.sha256 if self.identity else ""

    @property
    def version(self) -> str:
        """Returns its normalized version; empty until it is known."""
        return self.identity.version if self.identity else ""

    @property
    def rank(self) -> tuple[Version, int, bool, int]:
        """Returns the sort key of the releases of a model, of which the highest serves.

        A release whose file was replaced ranks directly below its replacement, even if the replacement has an older version.
        """
        other = self.replaced_by if self.replaced_by is not None and self.replaced_by.state in VERIFIED else None
        return (Version((other or self).version), (other or self).order, other is None, self.order)

    @property
    def is_starting(self) -> bool:
        """Returns whether it may still become ready without any change, and has not failed so far."""
        if self.state is ReleaseState.RUNNING:
            return self.is_model and not self.was_ready and not self.crash_count
        return self.state in {ReleaseState.VERIFYING, ReleaseState.UNPACKING}
