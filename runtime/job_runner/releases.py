"""The releases on which jobs run: chooses one for a job that begins, and finds its endpoint again while the job runs."""

from __future__ import annotations

import asyncio
import copy

from packaging.utils import canonicalize_name

from base.errors import NotFound, PexdockError, Unavailable
from base.ipc.front_door_control import RoutingTable
from runtime.front.codecs import media_types
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.hints import VERSION_HEADER, hints_from_headers
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response_stream import NDJSON
from runtime.front.requests.target import Target
from runtime.front.routing.route_table import RouteTable
from runtime.front.routing.split_route import ReleaseSelector, split_route_of
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.workers.link import WorkerLink
from runtime.jobs.job import Job, Submission


class NotRunnable(PexdockError):
    """No release can run the job now, which may change with the next routing table."""

    code = "not_runnable"


class JobReleases:
    """The releases of the routing table in force, with their job workers.

    Args:
        dispatchers: Dispatchers of the releases.
        table_files: The files of large tables.

    Attributes:
        table_files: As given.
    """

    def __init__(self, dispatchers: Dispatchers, table_files: TableFiles) -> None:
        self._dispatchers = dispatchers
        self.table_files = table_files
        self._routes = RouteTable()
        self._table = RoutingTable(0, [], startup_complete=False, paths_known=False)
        self._models: set[str] = set()
        self._failures: dict[str, tuple[str, int]] = {}
        self._changed: asyncio.Future[None] | None = None
        self._welcoming: set[asyncio.Task[None]] = set()
        self._claims: dict[int, tuple[str, bool]] = {}  # by number of a job with a worker: its release, and whether it is grouped

    async def apply(self, table: RoutingTable) -> None:
        """Applies a routing table, and connects to its job workers."""
        await self._dispatchers.load(table.routes)
        links = self._dispatchers.apply(table.routes)
        self._routes.apply_table(table, self._dispatchers.releases, {})
        self._table = table
        self._models = {canonicalize_name(route.release.model) for route in table.routes}
        self._failures = {route.release_id: (route.failure, route.failed_starts) for route in table.routes}
        for link in links:
            task = asyncio.get_running_loop().create_task(self._wait_welcomed(link))
            self._welcoming.add(task)
            task.add_done_callback(self._welcoming.discard)
        self._notify()

    async def wait_changed(self) -> None:
        """Waits until another table is in force, or a worker is ready."""
        if self._changed is None or self._changed.done():
            self._changed = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._changed)

    def is_runnable(self, model: str) -> bool:
        """Returns whether a release of a model may run jobs now."""
        return model in self._models

    def named_by(self, submission: Submission) -> str:
        """Returns the id of the release that the client of a new job names; empty if it names none, or if that is not known now."""
        if VERSION_HEADER.decode() not in submission.headers:
            return ""
        try:
            return self.choose(Job(number=0, id="", submission=submission, created_s=0.0))
        except PexdockError:  # the job fails for this reason when it begins, unless that has passed
            return ""

    def choose(self, job: Job) -> str:
        """Returns the id of the release on which a job begins: the one on which it began or must begin, or else one by the traffic.

        Raises:
            NotRunnable: There is none now.
            PexdockError: The job cannot be run on any release.
        """
        if job.release_id and self.knows(job.release_id):
            return job.release_id
        if not self._table.startup_complete:
            raise NotRunnable("some releases are still starting")
        target = self._route(job)
        headers = headers_of(job)
        head = self._routes.request_head(target, headers, job.submission.headers.get("content-type", ""), media_types.ARROW)
        if head.selector is None:
            return head.target.endpoint.release.id
        assert isinstance(head.selector, ReleaseSelector)
        return head.selector.select_by_weight().target.endpoint.release.id

    def claim_worker(self, head: RequestHead, number: int) -> bool:
        """Returns whether a worker is free for a job, which has it then until `release_worker`, unless the worker exits before it is sent.

        Beside a job whose groups are on all workers, one is free once a group has ended; then this job is next.
        """
        endpoint = head.target.endpoint
        assert isinstance(endpoint, EndpointQueue)
        release_id, workers = endpoint.release.id, endpoint.scheduler.workers
        self._claims.pop(number, None)
        others = {each: is_grouped for each, (claimed_id, is_grouped) in self._claims.items() if claimed_id == release_id}
        served = {batch.requests[0].head.target.group[-1] for link in workers.every_link() for batch in link.in_flight.batches.values()}
        free = sum(link.up and link.in_flight.is_empty for link in workers.links.values()) - sum(each not in served for each in others)
        shares = endpoint.release.up and any(others.values())
        if free > 0 or shares:
            self._claims[number] = release_id, bool(endpoint.spec.group_by)
        return number in self._claims

    def release_worker(self, number: int) -> None:
        """Gives back the worker of a job whose attempt has ended, if it has one."""
        if self._claims.pop(number, None) is not None:
            self._notify()

    def busy_sockets(self) -> list[str]:
        """Returns the sockets of the job workers that have a job."""
        return self._dispatchers.busy_sockets()

    def knows(self, release_id: str) -> bool:
        """Returns whether a release runs, or can be started."""
        return release_id in self._failures or release_id in self._table.standby

    def failure(self, release_id: str) -> tuple[str, int]:
        """Returns why no worker of a release can start, which is empty if one may, and the number of attempts for which that was so."""
        return self._failures.get(release_id, ("", 0))

    def head(self, job: Job, release_id: str, timeout_s: float) -> RequestHead | None:
        """Returns the head of a job's request to a release; None if the release does not run now.

        Raises:
            PexdockError: The release cannot run the job.
        """
        if release_id not in self._failures:
            return None
        try:
            target = self._route(job)
        except NotRunnable:
            return None
        route = split_route_of(target)
        found = target if route is None else route.targets.get(release_id)
        if found is None or found.endpoint.release.id != release_id:
            raise NotFound(f"release {release_id} has no endpoint at this path")
        found.require_valid()
        own = _target_for(found, job.number)
        # Parts without a schema may be anything that has a form in JSON.
        accept = NDJSON.decode() if found.endpoint.spec.streams and not found.endpoint.spec.output_schema else media_types.ARROW
        head = RequestHead(own, job.submission.headers.get("content-type", ""), accept, release_id)
        head.apply_hints(hints_from_headers(headers_of(job)))
        head.timeout_s = timeout_s
        return head

    def is_grouped(self, job: Job) -> bool:
        """Returns whether several workers can compute a job that has begun, as far as that is known."""
        try:
            head = self.head(job, job.release_id, 0.0)
        except PexdockError:
            return False
        return head is not None and bool(head.target.endpoint.spec.group_by)

    def _route(self, job: Job) -> Target:
        path, _, query = job.submission.target.encode("latin-1").partition(b"?")
        try:
            target = self._routes.route(path, query)
        except Unavailable as exc:
            raise NotRunnable(exc.detail) from exc
        if target is None:
            raise NotFound(f"no endpoint has the path {path.decode('latin-1')} any more; submit the job again with another one")
        return target

    async def _wait_welcomed(self, link: WorkerLink) -> None:
        await link.wait_welcomed()
        self._notify()

    def _notify(self) -> None:
        if self._changed is not None and not self._changed.done():
            self._changed.set_result(None)


def headers_of(job: Job) -> dict[bytes, bytes]:
    """Returns the headers of a job's request, as a front door has them."""
    return {name.encode("latin-1"): value.encode("latin-1") for name, value in job.submission.headers.items()}


def _target_for(target: Target, number: int) -> Target:
    """Returns a copy of a target for one job, whose requests share no batch with those of another."""
    own = copy.copy(target)
    own.group = (target.parameters, number)
    return own
