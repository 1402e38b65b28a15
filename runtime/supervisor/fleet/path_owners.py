"""The paths of all models: those that a model keeps from other models, and those that are reserved while their model cannot answer."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace
from packaging.utils import canonicalize_name

from base.ipc.front_door_control import ReservedPath
from runtime.model_state import ModelState
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.model_status import ModelStateAndReason
from runtime.supervisor.rollout.path_claims import Claims, claimed_paths, has_new_paths, release_paths, settled_releases, updated_claims
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import TrafficPlan
from runtime.supervisor.traffic.records import TrafficRecords

_NAMED_MAX = 5
"""Number of releases to name that another release waits for. At a first start there may be hundreds."""


class PathOwners:
    """Decides which paths belong to which model, from what the releases describe and from what the state file remembers.

    Args:
        records: The stored paths of all models.
        releases: All releases.
    """

    def __init__(self, records: TrafficRecords, releases: ReleaseSet) -> None:
        self._records = records
        self._releases = releases

    def claims(self, unread_files: Collection[str]) -> Claims:
        """Returns the paths with which the models in dist/ have served before, so that they belong to no other model.

        Args:
            unread_files: Files that were in dist/ at the start and are not read yet. Each may contain any model.
        """
        stored = {model: record.paths for model, record in self._records.store.records.items() if record.paths}
        present = self._releases.model_names
        return stored if unread_files else {model: paths for model, paths in stored.items() if model in present or self._of_model(model)}

    def undescribed(self, starting: Collection[Release]) -> set[str]:
        """Returns the releases whose paths are not known but may be soon, unless they failed often. `starting` are about to be started."""
        return {
            each.release.title
            for each in self._releases
            if not (each.release.spec or each.release.keeps_failing or each.files.is_base)
            and (each.may_become_ready or each.files.retry_due or each.release.state is ReleaseState.RUNNING or each.release in starting)
        }

    def hold_new_paths(self, claims: Claims, undescribed: Collection[str]) -> None:
        """Keeps releases from serving with new paths while those of others are not known, since a path may belong to another model."""
        awaited = ", ".join(sorted(undescribed)[:_NAMED_MAX]) + (", ..." if len(undescribed) > _NAMED_MAX else "")
        for release in self._releases.releases:
            release.awaits = awaited if release.is_model and has_new_paths(release, claims) else ""

    def reserved_paths(
        self, plans: Mapping[str, TrafficPlan], claims: Claims, states: Mapping[str, ModelStateAndReason]
    ) -> list[ReservedPath]:
        """Returns the paths of the models in dist/ that have no plan, and so cannot answer."""
        described = release_paths(settled_releases(self._releases.releases))
        paths = {(each.model, each.path) for each in [*claimed_paths(claims), *described]}
        routed = {model for model, plan in plans.items() if plan.routed}
        return [ReservedPath(path, model, _state_text(states.get(model))) for model, path in sorted(paths) if model not in routed]

    def remember(self, plans: Mapping[str, TrafficPlan]) -> bool:
        """Stores the paths of the models that serve. Returns whether they have changed."""
        records = self._records.store.records
        before = {model: record.paths for model, record in records.items() if record.paths}
        serving = {model: self._serving_releases(model, plan) for model, plan in plans.items() if plan.routed}
        after = updated_claims(before, serving)
        changed = [model for model in {*before, *after} if before.get(model, []) != after.get(model, [])]
        if changed:
            self._records.store.set_records(
                {model: replace(self._records.record(model), paths=after.get(model, [])) for model in sorted(changed)}
            )
        return bool(changed)

    def _serving_releases(self, model: str, plan: TrafficPlan) -> Iterable[Release]:
        standbys = (each.release for each in self._releases.of_model(model) if each.release.warm_standby)
        return dict.fromkeys([*plan.routed, *standbys])

    def _of_model(self, model: str) -> list[ManagedRelease]:
        """Returns the releases of a model. If it has none, files that cannot be read and whose names begin with that of the model."""
        unread = (each for each in self._releases if each.release.identity is None and each.release.in_place)
        return self._releases.of_model(model) or [each for each in unread if canonicalize_name(each.release.file).startswith(f"{model}-")]


def _state_text(found: ModelStateAndReason | None) -> str:
    """Returns the state and its reason for clients. A model of which no file is read yet may be in one that is."""
    if found is None or found.state is ModelState.UNKNOWN:
        return ModelState.STARTING
    return f"{found.state} ({found.reason})"
