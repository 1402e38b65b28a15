"""Decides whether this front door and each model are ready, by what the supervisor reports and by the connections to workers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
from packaging.utils import canonicalize_name

from base.ipc.front_door_control import ModelStates, ModelStatus
from runtime.model_state import MEANINGS, ModelState, machine_is_ready

_STARTING = "Pexdock is starting, and some files in dist/ are not ready or refused yet"
_SHUTTING_DOWN = "Pexdock is shutting down"


class ReadinessReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """The readiness of the machine.

    Attributes:
        ready: Whether clients should send requests.
        not_ready: Models that are not ready, whether or not the machine is.
        reason: Why the machine is not ready.
        models: Models that are not ready, with their states and reasons.
    """

    ready: bool
    not_ready: list[str]
    reason: str = ""
    models: dict[str, ModelStatus] = {}


class FrontReadiness:
    """The readiness of this front door and of each model.

    Args:
        models_up: Returns model → whether a release is connected, by the routing table in force.

    Attributes:
        startup_complete: Whether the table in force is complete.
        withdrawn: Whether shutdown has begun.
    """

    def __init__(self, models_up: Callable[[], Mapping[str, bool]]) -> None:
        self._models_up = models_up
        self._states: ModelStates | None = None  # stays None in a development server, where every model of the table is required
        self.startup_complete = self.withdrawn = False

    def set_states(self, states: ModelStates) -> None:
        """Sets the states of models, as the supervisor reports them."""
        self._states = states

    def status(self, model: str) -> ModelStatus:
        """Returns the state of a model by any spelling of its name. A model that is not connected here is not ready here."""
        return self._status(canonicalize_name(model), self._models_up())

    def report(self) -> ReadinessReport:
        """Returns the readiness of the machine."""
        connected = self._models_up()
        states = self._states or ModelStates({}, required=sorted(connected))
        found = {name: self._status(name, connected) for name in sorted({*connected, *states.models, *states.required})}
        ready = [name for name, status in found.items() if _is_ready(status)]
        waiting = {name: status for name, status in found.items() if not _is_ready(status)}
        shown = {name: status for name, status in waiting.items() if status.state != ModelState.UNKNOWN or name in states.required}
        reason = self._reason(ready, states)
        return ReadinessReport(not reason, list(shown), reason, shown)

    def _status(self, model: str, connected: Mapping[str, bool]) -> ModelStatus:
        up = connected.get(model)  # None if the table does not have the model
        reported = self._states.models.get(model) if self._states is not None else None
        if up is None and reported is None:
            return ModelStatus(ModelState.UNKNOWN, "no file of it is in dist/")
        if self.withdrawn:
            return ModelStatus(ModelState.RETIRING, _SHUTTING_DOWN)
        if up:
            return reported if reported is not None and _is_ready(reported) else ModelStatus(ModelState.READY)
        if reported is None or _is_ready(reported):
            return ModelStatus(ModelState.RESTARTING, "no worker of it is connected")
        return reported

    def _reason(self, ready: Sequence[str], states: ModelStates) -> str:
        """Returns the reason why the machine is not ready; empty if it is."""
        if self.withdrawn:
            return _SHUTTING_DOWN
        if not self.startup_complete:
            return _STARTING
        if machine_is_ready(ready, states.required, one_required=states.one_required):
            return ""
        missing = ", ".join(name for name in states.required if name not in ready)
        return f"it waits for {missing or 'any model'}; `pexdock models` shows why"


def _is_ready(status: ModelStatus) -> bool:
    return MEANINGS[ModelState(status.state)].ready
