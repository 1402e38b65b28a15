"""Starts and stops job workers as the job runner demands them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from base.ipc.front_door_control import JobDemand
from runtime.supervisor.releases.managed_release import ManagedRelease
from runtime.supervisor.releases.release_set import ReleaseSet


class JobDemands:
    """Divides the job workers among the releases.

    A worker that is no longer demanded stays for a while, unless another release demands one.

    Args:
        releases: All releases.
        count_max: Limit of the job workers of all releases.
        idle_s: Time for which a worker stays that is not demanded, in seconds.
        on_changed: Called when the demand has changed.
    """

    def __init__(self, releases: ReleaseSet, count_max: int, idle_s: float, on_changed: Callable[[], None]) -> None:
        self._releases = releases
        self._count_max = count_max
        self._idle_s = idle_s
        self._on_changed = on_changed
        self._demand = JobDemand({})
        self._idle: dict[str, asyncio.TimerHandle] = {}  # by release, while some of its workers are not demanded

    def set_demand(self, demand: JobDemand) -> None:
        """Replaces the demand."""
        before, self._demand = self._demand, demand
        spare = self._count_max - sum(demand.workers.values())
        for managed in self._releases:
            release_id = managed.release.sha256
            count = demand.workers.get(release_id, 0)
            managed.release.has_jobs = count > 0
            if count and release_id not in before.workers:
                managed.job_workers.forget_failure()
            surplus, kept = managed.job_workers.count - count, 0
            if surplus > 0:
                kept = max(0, min(surplus, spare, len(managed.job_workers.sockets) - count))  # one that is not ready is of no use
                spare -= kept
                if release_id not in self._idle:
                    self._idle[release_id] = asyncio.get_running_loop().call_later(self._idle_s, self._on_idle, managed)
            elif (timer := self._idle.pop(release_id, None)) is not None:
                timer.cancel()
            managed.job_workers.resize(count + kept, demand.busy, kept)
        self._on_changed()

    def on_runner_crash(self) -> None:
        """Replaces all job workers: the next job runner begins the jobs that they have again, and their handlers may go on for hours."""
        for managed in self._releases:
            managed.job_workers.replace_all()

    def _on_idle(self, managed: ManagedRelease) -> None:
        release_id = managed.release.sha256
        del self._idle[release_id]
        managed.job_workers.resize(self._demand.workers.get(release_id, 0), self._demand.busy)
