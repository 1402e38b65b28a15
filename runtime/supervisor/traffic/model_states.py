"""Follows the states of all models, and which of them readiness waits for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from base.ipc.front_door_control import ModelStates, ModelStatus
from runtime.model_state import MEANINGS, ModelFacts, ModelState, ReadinessPolicy
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.rollout.model_status import ModelStateAndReason, ReleaseStatus, model_of_file, model_state
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan, is_rolled_back
from runtime.supervisor.traffic.records import TrafficRecords

log = logging.getLogger(__name__)

RETIRING_REASON = "Pexdock is shutting down"

_NAMELESS = frozenset({ReleaseState.REFUSED, ReleaseState.FAILED})
"""States in which a release without a known name counts for the model that its file name promises."""


class ModelStateTracker:
    """The states of all models since this supervisor started.

    Args:
        records: The releases and policies of all models.
        policy: The models that readiness waits for.

    Attributes:
        current: Normalized name → state and reasons, of every model with a release or a policy.
    """

    def __init__(self, records: TrafficRecords, policy: ReadinessPolicy) -> None:
        self._records = records
        self._policy = policy
        self._was_ready: set[str] = set()
        self._at_start: set[str] = set()
        self._stopping = False
        self.current: dict[str, ModelStateAndReason] = {}

    def stop(self) -> None:
        """Reports all models as retiring from now on."""
        self._stopping = True
        self.current = {
            name: found if found.state is ModelState.UNKNOWN else found._replace(state=ModelState.RETIRING, reason=RETIRING_REASON)
            for name, found in self.current.items()
        }

    def update(self, plans: Mapping[str, TrafficPlan]) -> None:
        """Derives all states again, and logs each change. `plans` maps models to their traffic plans."""
        if self._stopping:
            return
        releases: dict[str, list[ReleaseStatus]] = {name: [] for name in self._records.model_names}
        for managed in self._records.releases:
            if model := _model_of(managed):
                releases.setdefault(model, []).append(self._status_of(managed, model))
                if managed.initial:
                    self._at_start.add(model)
        before, self.current = self.current, {name: model_state(releases[name], plans.get(name)) for name in sorted(releases)}
        for name, found in self.current.items():
            if MEANINGS[found.state].ready:
                self._was_ready.add(name)
            if name in before and before[name].state is not found.state:
                log.log(_level(found.state), "%s is %s%s", name, found.state, found.reason and f": {found.reason}")

    @property
    def waits_for(self) -> list[str]:
        """Returns the models that are not ready and that readiness waits for."""
        required = self._policy.required(self._facts())
        return [name for name in required if name not in self.current or not MEANINGS[self.current[name].state].ready]

    def message(self) -> ModelStates:
        """Returns the states for front doors."""
        facts = self._facts()
        models = {name: ModelStatus(found.state, found.reason) for name, found in self.current.items()}
        return ModelStates(models, self._policy.required(facts), self._policy.needs_one(facts))

    def _facts(self) -> Mapping[str, ModelFacts]:
        return {
            name: ModelFacts(found.state, name in self._at_start, name in self._was_ready, self._has_served(name))
            for name, found in self.current.items()
        }

    def _status_of(self, managed: ManagedRelease, model: str) -> ReleaseStatus:
        workers, files = managed.workers, managed.files
        return ReleaseStatus(
            managed.release,
            model,
            len(workers.sockets),
            workers.missing,
            bool(workers.pids),
            is_rolled_back(managed.release, self._records.record(model).traffic),
            files.base_pending or files.retry_due,
        )

    def _has_served(self, name: str) -> bool:
        record = self._records.record(name)
        return bool(record.traffic.served or record.history)


def _level(state: ModelState) -> int:
    return logging.INFO if MEANINGS[state].ready or state in {ModelState.STARTING, ModelState.WARMING} else logging.ERROR


def _model_of(managed: ManagedRelease) -> str:
    """Returns the normalized name of the model of a release; empty for a base and while it is unknown."""
    if managed.release.identity is not None:
        return managed.release.name if managed.release.is_model else ""
    if managed.files.pex is not None:
        return "" if managed.files.is_base else model_of_file(managed.files.pex.name)
    return model_of_file(managed.release.file) if managed.release.state in _NAMELESS else ""
