"""Makes the routing table that front doors receive."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from base.ipc.front_door_control import Route, RoutingTable, SplitSpec
from runtime.supervisor.releases.release_set import ReleaseSet
from runtime.supervisor.rollout.planner import Policies
from runtime.supervisor.rollout.release import Release
from runtime.supervisor.rollout.traffic_plan import TrafficPlan
from runtime.supervisor.rollout.traffic_policy import TrafficPolicy


class RoutingTableBuilder:
    """Builds the routing table, and a new generation of it after every change.

    Attributes:
        table: The newest table.
    """

    def __init__(self) -> None:
        self.table = RoutingTable(0, [], startup_complete=False)

    def generation_without(self, release: Release) -> int:
        """Returns the generation of the first table without a release, if the release is left out from now on."""
        return self.table.generation + any(route.release_id == release.sha256 for route in self.table.routes)

    def update(self, releases: ReleaseSet, plans: Mapping[str, TrafficPlan], policies: Policies, *, startup_complete: bool) -> None:
        """Makes a new generation of the table if its content has changed.

        Args:
            releases: All releases.
            plans: Model → its traffic plan.
            policies: Policies of all models.
            startup_complete: Whether the start is over. Once it is true, later values have no effect.
        """
        routes: list[Route] = []
        splits: dict[str, SplitSpec] = {}
        everything = releases.releases
        for name, plan in plans.items():
            fallback = plan.fallback(everything)
            routed = dict.fromkeys([*plan.routed, *([fallback] if fallback else [])])
            routes += [releases.managed(release).make_route() for release in routed]
            if split := plan.split_spec(policies.get(name, TrafficPolicy()), fallback):
                splits[name] = split
        table = RoutingTable(self.table.generation, routes, self.table.startup_complete or startup_complete, splits)
        if table != self.table:
            self.table = msgspec.structs.replace(table, generation=table.generation + 1)
