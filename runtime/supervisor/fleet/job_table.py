"""Makes the routing table of the job runner: that of the front doors, with job workers, and with releases that only end their jobs."""

from __future__ import annotations

import msgspec

from base.ipc.front_door_control import RoutingTable, SplitSpec
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.release_state import VERIFIED


class JobTableBuilder:
    """Builds the table of the job runner, and a new generation of it after every change.

    Args:
        releases: All releases.

    Attributes:
        table: The newest table.
    """

    def __init__(self, releases: ReleaseSet) -> None:
        self._releases = releases
        self.table = RoutingTable(0, [], startup_complete=False, paths_known=False)

    def next_generation(self) -> int:
        """Returns the generation of the first table without a worker that is retired now."""
        return self.table.generation + 1

    def update(self, requests: RoutingTable) -> None:
        """Makes a new generation of the table if its content has changed. `requests` is the table of the front doors."""
        routed = {route.release_id: self._releases.by_digest(route.release_id) for route in requests.routes}
        kept = [each for each in self._releases if each.release.has_jobs and each.release.spec and each.release.sha256 not in routed]
        splits = {model: msgspec.structs.replace(split, mirror=None) for model, split in requests.splits.items()}
        for managed in kept:  # it gets no new jobs
            model = managed.release.name
            weights = dict.fromkeys([each.release.sha256 for each in routed.values() if each and each.release.name == model], 1)
            splits.setdefault(model, SplitSpec(weights))
        ending = {managed.release.name for managed in kept}
        table = RoutingTable(
            self.table.generation,
            [managed.make_job_route() for managed in [*routed.values(), *kept] if managed is not None],
            requests.startup_complete,
            splits,
            [reserved for reserved in requests.reserved if reserved.model not in ending],
            requests.paths_known,
            sorted(each.release.sha256 for each in self._releases if each.release.is_model and each.release.state in VERIFIED),
        )
        if table != self.table:
            self.table = msgspec.structs.replace(table, generation=table.generation + 1)
