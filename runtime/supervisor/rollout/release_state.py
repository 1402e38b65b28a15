"""The lifecycle of one release as a table of (state, event). Pure: knows no process, clock or file.

    VERIFYING ─▶ WAITING ─▶ STANDBY ⇄ (UNPACKING ─▶ RUNNING)      and from any state to REFUSED, FAILED or STOPPED

A release that is not the newest of its model is on standby: verified but not unpacked. A base takes the same path without workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum


class ReleaseState(StrEnum):
    """State of one release. The values appear in the state file."""

    VERIFYING = "verifying"
    WAITING = "waiting"
    STANDBY = "standby"
    UNPACKING = "unpacking"
    RUNNING = "running"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"


VERIFIED = frozenset({ReleaseState.STANDBY, ReleaseState.UNPACKING, ReleaseState.RUNNING})
"""States of a release whose file passed every check and whose base is available."""


class ReleaseEvent(StrEnum):
    """An event in the lifecycle of one release."""

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


class ReleaseAction(StrEnum):
    """An action that the owner must take after a transition."""

    UNPACK = "unpack"
    START_WORKERS = "start workers"
    STOP_WORKERS = "stop workers"


_S, _E, _A = ReleaseState, ReleaseEvent, ReleaseAction
RELEASE_STEPS: Mapping[tuple[ReleaseState, ReleaseEvent], tuple[ReleaseState, ReleaseAction | None]] = {
    (_S.VERIFYING, _E.ADMITTED): (_S.WAITING, None),
    (_S.VERIFYING, _E.IS_BASE): (_S.UNPACKING, _A.UNPACK),
    (_S.VERIFYING, _E.REFUSED): (_S.REFUSED, None),
    (_S.VERIFYING, _E.FAILED): (_S.FAILED, None),
    (_S.VERIFYING, _E.STOPPED): (_S.STOPPED, None),
    (_S.WAITING, _E.BASE_CHOSEN): (_S.STANDBY, None),
    (_S.WAITING, _E.REFUSED): (_S.REFUSED, None),
    (_S.WAITING, _E.STOPPED): (_S.STOPPED, None),
    (_S.STANDBY, _E.PROMOTED): (_S.UNPACKING, _A.UNPACK),
    (_S.STANDBY, _E.REFUSED): (_S.REFUSED, None),
    (_S.STANDBY, _E.STOPPED): (_S.STOPPED, None),
    (_S.UNPACKING, _E.UNPACKED): (_S.RUNNING, _A.START_WORKERS),
    (_S.UNPACKING, _E.DEMOTED): (_S.STANDBY, None),
    (_S.UNPACKING, _E.REFUSED): (_S.REFUSED, None),
    (_S.UNPACKING, _E.FAILED): (_S.FAILED, None),
    (_S.UNPACKING, _E.STOPPED): (_S.STOPPED, None),
    (_S.RUNNING, _E.DEMOTED): (_S.STANDBY, _A.STOP_WORKERS),
    (_S.RUNNING, _E.REFUSED): (_S.REFUSED, _A.STOP_WORKERS),
    (_S.RUNNING, _E.FAILED): (_S.FAILED, _A.STOP_WORKERS),
    (_S.RUNNING, _E.STOPPED): (_S.STOPPED, _A.STOP_WORKERS),
    (_S.REFUSED, _E.RETRIED): (_S.WAITING, None),
    (_S.REFUSED, _E.STOPPED): (_S.STOPPED, None),
    (_S.FAILED, _E.STOPPED): (_S.STOPPED, None),
}
