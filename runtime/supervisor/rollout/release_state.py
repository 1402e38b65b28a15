"""The life of one release as a table of (state, event). Pure: knows no process, no clock, no file.

    VERIFYING ─▶ WAITING ─▶ STANDBY ⇄ (UNPACKING ─▶ RUNNING)      leaving at any time to REFUSED, FAILED or STOPPED

A release that is not the newest of its model stands by, verified but not unpacked. A base goes the same way with no worker. A pair
that is not in a table raises `IllegalStep` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from packaging.version import Version

from base.ipc.control import ReleaseSpec
from runtime.state_machine import Machine


class ReleaseState(StrEnum):
    """What is intended with a release."""

    VERIFYING = "verifying"
    WAITING = "waiting"
    STANDBY = "standby"
    UNPACKING = "unpacking"
    RUNNING = "running"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"


ALIVE = frozenset({ReleaseState.STANDBY, ReleaseState.UNPACKING, ReleaseState.RUNNING})
"""Known to be good as far as a file can tell."""


class ReleaseEvent(StrEnum):
    """What has happened to a release."""

    ADMITTED = "admitted"
    IS_BASE = "is base"
    BASE_CHOSEN = "base chosen"
    PROMOTED = "promoted"
    UNPACKED = "unpacked"
    DEMOTED = "demoted"
    REFUSED = "refused"
    FAILED = "failed"
    RETRIED = "retried"
    STOPPED = "stopped"


class Action(StrEnum):
    """What is to be done about a step."""

    UNPACK = "unpack"
    START = "start workers"
    END = "end workers"


_R, _E = ReleaseState, ReleaseEvent
RELEASE_STEPS: Mapping[tuple[ReleaseState, ReleaseEvent], tuple[ReleaseState, Action | None]] = {
    (_R.VERIFYING, _E.ADMITTED): (_R.WAITING, None),
    (_R.VERIFYING, _E.IS_BASE): (_R.UNPACKING, Action.UNPACK),
    (_R.VERIFYING, _E.REFUSED): (_R.REFUSED, None),
    (_R.VERIFYING, _E.FAILED): (_R.FAILED, None),
    (_R.VERIFYING, _E.STOPPED): (_R.STOPPED, None),
    (_R.WAITING, _E.BASE_CHOSEN): (_R.STANDBY, None),
    (_R.WAITING, _E.REFUSED): (_R.REFUSED, None),
    (_R.WAITING, _E.STOPPED): (_R.STOPPED, None),
    (_R.STANDBY, _E.PROMOTED): (_R.UNPACKING, Action.UNPACK),
    (_R.STANDBY, _E.REFUSED): (_R.REFUSED, None),
    (_R.STANDBY, _E.STOPPED): (_R.STOPPED, None),
    (_R.UNPACKING, _E.UNPACKED): (_R.RUNNING, Action.START),
    (_R.UNPACKING, _E.DEMOTED): (_R.STANDBY, None),
    (_R.UNPACKING, _E.REFUSED): (_R.REFUSED, None),
    (_R.UNPACKING, _E.FAILED): (_R.FAILED, None),
    (_R.UNPACKING, _E.STOPPED): (_R.STOPPED, None),
    (_R.RUNNING, _E.DEMOTED): (_R.STANDBY, Action.END),
    (_R.RUNNING, _E.REFUSED): (_R.REFUSED, Action.END),
    (_R.RUNNING, _E.FAILED): (_R.FAILED, Action.END),
    (_R.RUNNING, _E.STOPPED): (_R.STOPPED, Action.END),
    (_R.REFUSED, _E.RETRIED): (_R.WAITING, None),
    (_R.REFUSED, _E.STOPPED): (_R.STOPPED, None),
    (_R.FAILED, _E.STOPPED): (_R.STOPPED, None),
}


@dataclass(frozen=True)
class Identity:
    """What a pex turned out to be."""

    kind: str
    name: str
    version: str
    sha256: str


@dataclass(eq=False)
class Release:
    """One release, or one base.

    Attributes:
        file: its name in dist/.
        order: its place in the sequence of drops. Where two releases want the same, the lower one has it.
        words: what its worker said when one was last ready.
        was_ready: whether a worker was ready since it was last started.
        deaths: workers that died since it was last started, before any was ready.
        awaited: workers that were not ready yet since it was last started, while none has died: it takes over with all of them.
        kept: it served before, and stays up for a while without requests.
        watched: it is on probation.
        in_place: whether `file` is in dist/ and holds its content.
        replaced_by: the release that `file` holds now, where that is another one.
        contended: it is refused only because another release has what it wants.
    """

    file: str
    order: int
    machine: Machine[ReleaseState, ReleaseEvent, Action] = field(default_factory=lambda: Machine(RELEASE_STEPS, ReleaseState.VERIFYING))
    identity: Identity | None = None
    words: ReleaseSpec | None = None
    was_ready: bool = False
    deaths: int = 0
    awaited: int = 0
    kept: bool = False
    watched: bool = False
    in_place: bool = True
    replaced_by: Release | None = None
    contended: bool = False
    reason: str = ""

    @property
    def state(self) -> ReleaseState:
        """Where it stands."""
        return self.machine.state

    @property
    def title(self) -> str:
        """How people name it: `iris 0.1.0`, or the file's name before more is known."""
        return f"{self.identity.name} {self.identity.version}" if self.identity else self.file

    @property
    def is_model(self) -> bool:
        """Whether it is known to be a model."""
        return self.identity is not None and self.identity.kind == "model"

    @property
    def serves(self) -> bool:
        """Whether it may take requests; its workers may be down at the moment."""
        return self.state is ReleaseState.RUNNING and self.was_ready

    @property
    def takes_over(self) -> bool:
        """Whether it may take the requests of a release that serves now."""
        return self.serves and not self.awaited

    @property
    def name(self) -> str:
        """Of its model, in normal form, once that is known."""
        return self.identity.name if self.identity else ""

    @property
    def sha256(self) -> str:
        """The digest of its content, once that is known."""
        return self.identity.sha256 if self.identity else ""

    @property
    def version(self) -> str:
        """Its version in normal form, once that is known."""
        return self.identity.version if self.identity else ""

    @property
    def rank(self) -> tuple[Version, int, bool, int]:
        """The highest of a model serves. One whose file was replaced comes right after what came in its place, be it an older version."""
        other = self.replaced_by if self.replaced_by is not None and self.replaced_by.state in ALIVE else None
        return (Version((other or self).version), (other or self).order, other is None, self.order)

    @property
    def on_its_way(self) -> bool:
        """Whether it may still become ready by itself, and has not failed to yet."""
        if self.state is ReleaseState.RUNNING:
            return self.is_model and not self.was_ready and not self.deaths
        return self.state in {ReleaseState.VERIFYING, ReleaseState.UNPACKING}
