"""Makes the routing table that front doors receive."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from base.ipc.front_door_control import ReservedPath, Route, RoutingTable, SplitSpec
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_plan import TrafficPlan
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy
from runtime.supervisor.traffic.records import TrafficRecords


class RoutingTableBuilder:
    """Builds the routing table, and a new generation of it after every change.

    Args:
        records: The releases and the traffic policies of all models.

    Attributes:
        table: The newest table.
    """

    def __init__(self, records: TrafficRecords) -> None:
        self._records = records
        self._releases = records.releases
        self.table = RoutingTable(0, [], startup_complete=False, paths_known=False)

    def generation_without(self, release: Release) -> int:
        """Returns the generation of the first table without a release, if the release is left out from now on."""
        return self.table.generation + any(route.release_id == release.sha256 for route in self.table.routes)

    def update(
        self, plans: Mapping[str, TrafficPlan], reserved: Sequence[ReservedPath], *, paths_known: bool, startup_complete: bool
    ) -> None:
        """Makes a new generation of the table if its content has changed.

        Args:
            plans: Model → its traffic plan, for the models that receive requests.
            reserved: Paths of the other models.
            paths_known: Whether no other model may still describe paths that it had before this table.
            startup_complete: Whether the start is over. Once it is true, later values have no effect.
        """
        routes: list[Route] = []
        splits: dict[str, SplitSpec] = {}
        releases, policies = self._releases.releases, self._records.policies
        for name, plan in plans.items():
            fallback = plan.fallback(releases)
            routed = dict.fromkeys([*plan.routed, *([fallback] if fallback else [])])
            routes += [self._releases.managed(release).make_route() for release in routed]
            if split := plan.split_spec(policies.get(name, TrafficPolicy()), fallback):
                splits[name] = split
        complete = self.table.startup_complete or startup_complete
        table = RoutingTable(self.table.generation, routes, complete, splits, list(reserved), paths_known)
        if table != self.table:
            self.table = msgspec.structs.replace(table, generation=table.generation + 1)
