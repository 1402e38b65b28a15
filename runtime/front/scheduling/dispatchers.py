"""The dispatchers of all releases of the routing table. All code here runs in the event loop's thread."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from base.ipc.front_door_control import FailureLimit, RequestsSent, Route, WorkerUnhealthy
from base.ipc.release_spec import ReleaseSpec
from runtime.front.memory.budget import MIRROR_DIVISOR, MemoryBudget, release_max_bytes
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedEndpoint, ServedRelease
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatcher import Dispatcher
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.scheduling.failover import Failover
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.telemetry.outcomes import OutcomeCounters
from runtime.front.workers.in_flight import IN_FLIGHT_MAX
from runtime.front.workers.link import WorkerLink


def _discard(_: WorkerUnhealthy | RequestsSent) -> None:
    """Drops a report. Used without a supervisor."""


class Dispatchers:
    """Makes a dispatcher for each release of the routing table in force, and retires the dispatchers of removed releases.

    Args:
        limits: Limits of each endpoint's queue.
        shared_memory_max_bytes: Limit of all shared memory of the front door.
        deadlines: Deadlines of all requests of the front door.
        metrics: Counts requests; None without a metrics configuration.
        outcomes: Counts how requests to watched releases end; None without a supervisor.
        report: Sends reports on workers to the supervisor.

    Attributes:
        limits: As given.
        report_interval_requests: Number of requests to one worker between two reports of that number.
        batches_max: Limit of the batches that one worker has to compute.
    """

    def __init__(
        self,
        limits: QueueLimits,
        shared_memory_max_bytes: int,
        deadlines: Deadlines,
        metrics: FrontMetrics | None = None,
        outcomes: OutcomeCounters | None = None,
        report: Callable[[WorkerUnhealthy | RequestsSent], None] = _discard,
    ) -> None:
        self.limits = limits
        self._budget = MemoryBudget(shared_memory_max_bytes)
        self._deadlines = deadlines
        self._metrics = metrics
        self._outcomes = outcomes
        self._report = report
        self.report_interval_requests = sys.maxsize
        self.batches_max = IN_FLIGHT_MAX
        self._current, self._prepared = list[Dispatcher](), list[Dispatcher]()
        self._loaded: list[ServedRelease] = []
        self._retiring: set[Dispatcher] = set()
        self._opt_in_only: Collection[str] = ()
        self._failover = Failover(self._find_failover_target)

    @property
    def releases(self) -> list[ServedRelease]:
        """The releases in force."""
        return [dispatcher.release for dispatcher in self._current]

    async def load(self, routes: Sequence[Route]) -> None:
        """Makes the codecs of new releases on a thread, so that `prepare` takes little time whatever the number of columns."""
        same, self._loaded = await asyncio.to_thread(self._load, routes, self._known())
        for release, spec in same:
            release.spec = spec  # which is equal, and now also identical, so that nothing needs to compare it again

    def prepare(self, routes: Sequence[Route]) -> list[WorkerLink]:
        """Connects to new releases and workers before their routes are in force. Returns the new links."""
        links: list[WorkerLink] = []
        known = self._known()
        for route in routes:
            dispatcher = _find(known, route)
            if dispatcher is None:
                dispatcher = self._make_dispatcher(route)
                self._prepared.append(dispatcher)
            links += dispatcher.workers.connect_workers(route.sockets)
        return links

    def apply(self, routes: Sequence[Route], mirrored_to: Collection[str] = (), opt_in_only: Collection[str] = ()) -> list[WorkerLink]:
        """Applies routes. Removed releases still answer the requests that they have. Returns the new links.

        Args:
            routes: All routes.
            mirrored_to: IDs of releases that get only mirrored requests.
            opt_in_only: IDs of releases that get mirrored requests, and requests that name them.
        """
        self._opt_in_only = opt_in_only
        kept, links = list[Dispatcher](), list[WorkerLink]()
        whole = self._budget.max_bytes
        share = release_max_bytes(whole, len(routes) - len(mirrored_to))
        known = self._known()
        for route in routes:
            dispatcher = _find(known, route) or self._make_dispatcher(route)
            dispatcher.workers.retire_except(route.sockets)
            links += dispatcher.workers.connect_workers(route.sockets)
            self._limit_failures(dispatcher, route.failure_limit)
            dispatcher.release.budget.max_bytes = whole // MIRROR_DIVISOR if route.release_id in mirrored_to else share
            kept.append(dispatcher)
        kept_ones = set(kept)
        prepared, self._prepared, self._loaded = self._prepared, [], []
        gone, self._current = [each for each in self._current + prepared if each not in kept_ones], kept
        for dispatcher in gone:
            self._retiring.add(dispatcher)
            dispatcher.retire(partial(self._retiring.discard, dispatcher))
        return links

    def busy_sockets(self) -> list[str]:
        """Returns the sockets of the workers that have a batch."""
        links = (link for dispatcher in (*self._current, *self._retiring) for link in dispatcher.workers.every_link())
        return [link.path for link in links if link.in_flight.batches]

    async def wait_drained(self) -> None:
        """Waits until no request waits for a worker of a release that is already removed. Time limits of requests limit this wait."""
        await asyncio.gather(*(dispatcher.drained.wait() for dispatcher in self._retiring))

    def stop(self) -> None:
        """Fails all work of releases without workers, since no worker will be started any more."""
        for dispatcher in (*self._current, *self._retiring):
            dispatcher.stop()

    def _find_failover_target(self, endpoint: ServedEndpoint) -> EndpointQueue | None:
        """Returns the queue of the same endpoint in another release that takes requests; None if there is none."""
        for dispatcher in self._current:
            release = dispatcher.release
            same_model = release.spec.model == endpoint.release.spec.model
            if same_model and release.takes_requests and release.id not in self._opt_in_only:
                for queue in dispatcher.queues:
                    if queue.spec_digest == endpoint.spec_digest:
                        return queue
        return None

    def _known(self) -> Mapping[str, list[Dispatcher]]:
        """Returns the dispatchers in force and those that are prepared, by release id."""
        known: dict[str, list[Dispatcher]] = {}
        for dispatcher in self._current + self._prepared:
            known.setdefault(dispatcher.release.id, []).append(dispatcher)
        return known

    def _limit_failures(self, dispatcher: Dispatcher, limit: FailureLimit | None) -> None:
        release = dispatcher.release
        if limit is None and release.outcomes is not None:
            release.outcomes = None
            dispatcher.wake()  # for requests that had to wait
        elif limit is not None and release.outcomes is None and self._outcomes is not None:
            release.outcomes = self._outcomes.release_counter(release.id, limit)

    def _load(
        self, routes: Sequence[Route], known: Mapping[str, list[Dispatcher]]
    ) -> tuple[list[tuple[ServedRelease, ReleaseSpec]], list[ServedRelease]]:
        """Returns the known releases, each with its spec in `routes`, and those that are new."""
        same, new = list[tuple[ServedRelease, ReleaseSpec]](), list[ServedRelease]()
        for route in routes:
            dispatcher = _find(known, route)
            if dispatcher is None:
                new.append(self._make_release(route))
            else:
                same.append((dispatcher.release, route.release))
        return same, new

    def _make_release(self, route: Route) -> ServedRelease:
        budget = MemoryBudget(self._budget.max_bytes, self._budget)
        limits = self.limits
        return ServedRelease(route.release_id, route.release, budget, limits.columns_max, limits.row_max_values, limits.response_max_bytes)

    def _make_dispatcher(self, route: Route) -> Dispatcher:
        loaded = (each for each in self._loaded if each.id == route.release_id and each.spec is route.release)
        release = next(loaded, None) or self._make_release(route)
        dispatcher = Dispatcher(release, self.limits, self._deadlines, self._failover, self._report, self._metrics)
        dispatcher.report_interval_requests = self.report_interval_requests
        dispatcher.batches_max = self.batches_max
        return dispatcher


def _find(known: Mapping[str, list[Dispatcher]], route: Route) -> Dispatcher | None:
    """Returns the dispatcher of a route; None if there is none. A release of equal version but other content is another release."""
    return next((each for each in known.get(route.release_id, ()) if each.release.spec == route.release), None)
