"""All releases of one dist/, and lookups of them."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.supervisor.processes.worker import WorkerProcess
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_report import report_release
from runtime.supervisor.rollout.planner import Policies, group_by_model
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.release_state import ReleaseState
from runtime.supervisor.rollout.traffic_plan import standby_reason
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.status.state import ReleaseReport


class ReleaseSet:
    """The releases and bases of a supervisor, in the order in which they were dropped into dist/."""

    def __init__(self) -> None:
        self._all: list[ManagedRelease] = []

    def __iter__(self) -> Iterator[ManagedRelease]:
        """Iterates over all releases and bases. More may be added during the iteration."""
        return iter(self._all)

    @property
    def releases(self) -> list[Release]:
        """Returns the data of all releases and bases that decisions use."""
        return [managed.release for managed in self._all]

    @property
    def workers(self) -> list[WorkerProcess]:
        """Returns every worker, including job workers and those that are being retired."""
        return [worker for managed in self._all for each in (managed.workers, managed.job_workers) for worker in each.processes]

    @property
    def digests(self) -> set[str]:
        """Returns the digests of files whose copies in the cache are needed."""
        return {managed.release.sha256 for managed in self._all if managed.release.identity}

    @property
    def is_cache_stable(self) -> bool:
        """Returns whether nothing is being copied or unpacked into the cache, so that `digests` is complete."""
        return not any(managed.release.state in {ReleaseState.VERIFYING, ReleaseState.UNPACKING} for managed in self._all)

    def add(self, managed: ManagedRelease) -> None:
        """Adds a release."""
        self._all.append(managed)

    def drop_stopped(self) -> None:
        """Forgets the releases that are stopped."""
        self._all = [managed for managed in self._all if managed.release.state is not ReleaseState.STOPPED]

    def managed(self, release: Release) -> ManagedRelease:
        """Returns the run-time side of a release."""
        return next(managed for managed in self._all if managed.release is release)

    def by_digest(self, sha256: str) -> ManagedRelease | None:
        """Returns the release with this content; None if there is none."""
        return next((managed for managed in self._all if managed.release.sha256 == sha256), None)

    def of_file(self, name: str) -> list[ManagedRelease]:
        """Returns the releases that came from this file of dist/."""
        return [managed for managed in self._all if managed.release.file == name]

    def of_model(self, model: str) -> list[ManagedRelease]:
        """Returns the releases of a model by its normalized name."""
        return [managed for managed in self._all if managed.release.is_model and managed.release.name == model]

    def verified_of_model(self, model: str) -> list[Release]:
        """Returns the verified releases of a model by its normalized name, with the highest rank first."""
        return next((group for group in group_by_model(self.releases) if group[0].name == model), [])

    @property
    def model_names(self) -> set[str]:
        """Returns the normalized names of all models."""
        return {managed.release.name for managed in self._all if managed.release.is_model}

    def reports(self, policies: Policies) -> list[ReleaseReport]:
        """Returns the reports of all releases for the state file."""
        reasons = {
            release: standby_reason(release, group, policies.get(release.name, TrafficPolicy()))
            for group in group_by_model(self.releases)
            for release in group
        }
        ordered = sorted(self._all, key=lambda managed: (managed.release.file, managed.release.order))
        return [report_release(managed, reasons.get(managed.release, "")) for managed in ordered]
