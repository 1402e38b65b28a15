"""What the front door serves: all releases of the routing table in force.

Everything here runs in the loop's thread.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Sequence
from functools import partial

from base.ipc.front_door_control import RequestsSent, Route, WorkerUnhealthy
from runtime.front.memory.budget import COPIES_PART, MemoryBudget, shared
from runtime.front.requests.deadlines import Deadlines
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatcher import Dispatcher
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.telemetry.outcomes import OutcomeCounters
from runtime.front.workers.link import WorkerLink


class Dispatchers:
    """All releases of the routing table in force.

    Args:
        recorder: None where nobody wants measures.
        tallies: of watched releases; None where nobody listens.
        tell: takes what the supervisor is to know of workers.

    Attributes:
        told_requests: of each so many that a worker was sent.
    """

    def __init__(
        self,
        bounds: QueueLimits,
        shared_memory_max_bytes: int,
        deadlines: Deadlines,
        recorder: FrontMetrics | None = None,
        tallies: OutcomeCounters | None = None,
        tell: Callable[[WorkerUnhealthy | RequestsSent], None] = lambda _: None,
    ) -> None:
        self._bounds = bounds
        self.budget = MemoryBudget(shared_memory_max_bytes)
        self._deadlines = deadlines
        self._recorder = recorder
        self._tallies = tallies
        self._tell = tell
        self.told_requests = sys.maxsize
        self.releases, self._coming = list[Dispatcher](), list[Dispatcher]()
        self._retiring: set[Dispatcher] = set()
        self._apart: Collection[str] = ()

    def prepare(self, routes: Sequence[Route]) -> list[WorkerLink]:
        """Connects to releases and workers that are not in force yet, so that they can answer once they are. Returns new links."""
        links: list[WorkerLink] = []
        for route in routes:
            release = self._known(route)
            if release is None:
                release = self._release(route)
                self._coming.append(release)
            links += release.connect(route.sockets)
        return links

    def apply(self, routes: Sequence[Route], copied_to: Collection[str] = (), apart: Collection[str] = ()) -> list[WorkerLink]:
        """Puts these routes in force. Releases that are gone answer what they have. Returns new links.

        Args:
            routes: all of them.
            copied_to: the releases that get copies, and only these.
            apart: those that get no request but copies, and what asks for them.
        """
        self._apart = apart
        kept, links = list[Dispatcher](), list[WorkerLink]()
        whole, share = self.budget.max_bytes, shared(self.budget.max_bytes, len(routes) - len(copied_to))
        for route in routes:
            release = self._known(route) or self._release(route)
            release.leave(route.sockets)
            links += release.connect(route.sockets)
            self._watch(release, watched=route.report_outcomes)
            release.bound(whole // COPIES_PART if route.release_id in copied_to else share)
            kept.append(release)
        coming, self._coming = self._coming, []
        gone, self.releases = [each for each in self.releases + coming if each not in kept], kept
        for release in gone:
            self._retiring.add(release)
            release.retire(partial(self._retiring.discard, release))
        return links

    async def wait_left(self) -> None:
        """Until nothing waits any more for a worker of a release that is gone by now. Each request waits for its time at most."""
        await asyncio.gather(*(release.left.wait() for release in self._retiring))

    def end(self) -> None:
        """No worker will be started any more: what waits for one is answered."""
        for release in (*self.releases, *self._retiring):
            release.end()

    def _heir(self, endpoint: EndpointQueue) -> EndpointQueue | None:
        """Where the requests of an endpoint go that nobody is left to answer: to the same one of another release that takes some."""
        for release in self.releases:
            if release.takes_requests and release.spec.model == endpoint.dispatcher.spec.model and release.id not in self._apart:
                for each in release.endpoints:
                    if each.spec == endpoint.spec:
                        return each
        return None

    def _known(self, route: Route) -> Dispatcher | None:
        """The release of a route, where it is there already. Other content under the same name and version is another one."""
        return next((each for each in self.releases + self._coming if each.id == route.release_id and each.spec == route.release), None)

    def _watch(self, release: Dispatcher, *, watched: bool) -> None:
        if watched and not release.watched and self._tallies is not None:
            release.watch(self._tallies.release_counter(release.id))
        elif not watched:
            release.watch(None)

    def _release(self, route: Route) -> Dispatcher:
        found = Dispatcher(route.release_id, route.release, self._bounds, self.budget, self._deadlines, self._recorder)
        found.tell, found.told_requests = self._tell, self.told_requests
        found.failover_target = self._heir
        return found
