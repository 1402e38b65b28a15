"""The lifecycle of one worker as a table of (state, event). Pure: knows no process, no clock and no file.

    STARTING ─▶ READY ─▶ RETIRED ─▶ STOPPING ─▶ STOPPED
        ▲─ BACKING_OFF ◀─┘ (exited)                       or CANNOT_LOAD, which is final

A pair that is not in the table raises `IllegalStep` and changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from runtime.state_machine import Machine


class WorkerState(StrEnum):
    """The state of one worker."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "restarting"
    RETIRED = "retired"
    STOPPING = "stopping"
    CANNOT_LOAD = "cannot load"
    STOPPED = "stopped"


class WorkerEvent(StrEnum):
    """An event of one worker."""

    READY = "ready"
    EXITED = "exited"
    FAILED_TO_LOAD = "failed to load"
    RESTART_DUE = "restart due"
    RETIRED = "retired"
    UNROUTED = "unrouted"


class WorkerAction(StrEnum):
    """An action that the owner must take after a transition."""

    SPAWN = "spawn"
    SCHEDULE_RESTART = "schedule a restart"
    DRAIN = "drain"
    KILL = "kill"
    FORGET = "forget"


_S, _E = WorkerState, WorkerEvent
WORKER_STEPS: Mapping[tuple[WorkerState, WorkerEvent], tuple[WorkerState, WorkerAction | None]] = {
    (_S.STARTING, _E.READY): (_S.READY, None),
    (_S.STARTING, _E.EXITED): (_S.BACKING_OFF, WorkerAction.SCHEDULE_RESTART),
    (_S.STARTING, _E.FAILED_TO_LOAD): (_S.CANNOT_LOAD, None),
    (_S.STARTING, _E.RETIRED): (_S.STOPPING, WorkerAction.KILL),  # it never received a request
    (_S.READY, _E.EXITED): (_S.BACKING_OFF, WorkerAction.SCHEDULE_RESTART),
    (_S.READY, _E.RETIRED): (_S.RETIRED, None),  # a front door may still send it requests
    (_S.BACKING_OFF, _E.RESTART_DUE): (_S.STARTING, WorkerAction.SPAWN),
    (_S.BACKING_OFF, _E.RETIRED): (_S.STOPPED, WorkerAction.FORGET),
    (_S.CANNOT_LOAD, _E.RETIRED): (_S.STOPPED, WorkerAction.FORGET),
    (_S.RETIRED, _E.UNROUTED): (_S.STOPPING, WorkerAction.DRAIN),
    (_S.RETIRED, _E.EXITED): (_S.STOPPED, WorkerAction.FORGET),
    (_S.STOPPING, _E.READY): (_S.STOPPING, None),  # it became ready before it was killed
    (_S.STOPPING, _E.EXITED): (_S.STOPPED, WorkerAction.FORGET),
    (_S.STOPPING, _E.FAILED_TO_LOAD): (_S.STOPPED, WorkerAction.FORGET),
}


def new_worker() -> Machine[WorkerState, WorkerEvent, WorkerAction]:
    """Returns the machine of a worker that is being spawned."""
    return Machine(WORKER_STEPS, WorkerState.STARTING)
