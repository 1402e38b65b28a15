"""The inference service: applies routing tables, and turns the head and the body of an HTTP request into an inference request."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from random import getrandbits

from base.errors import PexdockError
from base.ipc.front_door_control import Configure, RoutingTable
from base.ipc.release_spec import ReleaseSpec
from runtime.front.app.fast_path import FastPath
from runtime.front.app.head_cache import HeadCache
from runtime.front.app.readiness import FrontReadiness
from runtime.front.app.slow_bodies import DecodingRequest, SlowBodies
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.problems import problem_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead, Selection
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import Target
from runtime.front.routing.mirrors import MirrorRegistry
from runtime.front.routing.route_table import RouteTable
from runtime.front.scheduling.admission import submit_request
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.telemetry.mirror_stats import MirrorStatsByRelease
from runtime.front.workers.link import WorkerLink
from runtime.http.api_keys import ApiKeys


class InferenceService:
    """Serves the endpoints of the routing table in force.

    Args:
        dispatchers: Releases of the table, with their workers.
        body_max_bytes: Limit of a request body; a larger one is refused with 413.
        mirror_stats: Collects comparisons of mirrored requests; None disables mirroring.
        on_model_requested: Called with the model of each request that is refused because the model is not up.
        table_files: The files of large tables; None for files within the default limits.

    Attributes:
        body_max_bytes: As given.
        table_files: As given.
        routes: Routes of the table in force.
        slow_bodies: Decodes large bodies on threads.
        heads: Heads that the fast path has read with the present table and keys.
        fast_path: Reads the heads of plain predictions.
        readiness: Readiness of this front door and of each model.
        tables_applied: Number of tables that were applied so far.
        ids: Yields request ids without end.
    """

    def __init__(
        self,
        dispatchers: Dispatchers,
        body_max_bytes: int,
        mirror_stats: MirrorStatsByRelease | None = None,
        on_model_requested: Callable[[str], None] = lambda _: None,
        table_files: TableFiles | None = None,
    ) -> None:
        self._dispatchers = dispatchers
        self._on_model_requested = on_model_requested
        self.body_max_bytes = body_max_bytes
        self.routes = RouteTable()
        self.slow_bodies = SlowBodies(self.routes, dispatchers.limits.max_bytes, self.refusal)
        self.heads = HeadCache()
        self.table_files = table_files or TableFiles(Configure())
        self.fast_path = FastPath(self.routes, body_max_bytes, self.table_files)
        self._mirrors = MirrorRegistry(mirror_stats)
        self._keys: ApiKeys | None = None
        self.tables_applied = 0
        self.readiness = FrontReadiness(self.routes.models_up)
        # The first half is unique to this process, the second half within it. A random number per request would cost more than routing.
        self.ids: Iterator[str] = map(f"{getrandbits(64):016x}%016x".__mod__, count())

    # ---- changes by the supervisor and operators

    def set_body_limit(self, body_max_bytes: int) -> None:
        """Limits the bodies of requests that arrive from now on."""
        self.body_max_bytes = self.fast_path.body_max_bytes = body_max_bytes
        self.heads.clear()  # it has the lengths of bodies that were accepted

    async def load(self, table: RoutingTable) -> None:
        """Does the work for the new releases of a table whose amount depends on their number of columns, on a thread."""
        await self._dispatchers.load(table.routes)

    def prepare(self, table: RoutingTable) -> list[WorkerLink]:
        """Connects to the new workers of a table before it is applied, so that no request waits for a worker that has not answered yet."""
        return self._dispatchers.prepare(table.routes)

    def apply(self, table: RoutingTable) -> list[WorkerLink]:
        """Applies a routing table at once and as a whole. Returns the new links, whose workers have not answered yet."""
        copied_to = {
            each.mirror.release_id
            for each in table.splits.values()
            if each.mirror is not None and each.mirror.release_id not in each.weights
        }
        links = self._dispatchers.apply(table.routes, copied_to, set().union(*(each.opt_in_only for each in table.splits.values())))
        releases = self._dispatchers.releases
        self.routes.apply_table(table, releases, self._mirrors.apply(table.splits, releases))
        self.heads.clear()
        self.readiness.startup_complete = table.startup_complete
        self.tables_applied += 1
        return links

    def withdraw(self) -> None:
        """Reports not ready from now on, and keeps serving."""
        self.readiness.withdrawn = True

    def require_keys(self, keys: ApiKeys) -> None:
        """Admits only requests with one of these API keys from now on, except health probes."""
        self._keys = self.fast_path.keys = keys
        self.heads.clear()  # some may have had a key that was revoked

    # ---- information for the health pages

    @property
    def documented(self) -> list[ReleaseSpec]:
        """The releases that the OpenAPI document describes."""
        return self.routes.documented_specs()

    @property
    def requires_keys(self) -> bool:
        """True if a request must have an API key."""
        return self._keys is not None

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether a request with these headers may access more than health."""
        return self._keys is None or self._keys.admits(headers)

    def client_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str:
        """Returns the client that the API key of an admitted request names; empty if requests need no key."""
        return "" if self._keys is None else self._keys.client_of(headers) or ""

    # ---- requests

    async def select(self, head: RequestHead, body: bytes | BodyBuffer, request_id: str) -> Selection:
        """Chooses the release that answers a request of the ASGI application, and decodes a large body.

        Raises:
            PexdockError: The request is refused.
        """
        if self.slow_bodies.is_slow(head, body):
            return await self.slow_bodies.decode(head, body, request_id)
        if head.selector is not None or head.target.endpoint.release.retiring:
            return self.routes.select(head, body)
        return Selection(head, None)

    def submit(
        self, head: RequestHead, request_id: str, body: bytes | BodyBuffer, on_response: Callable[[HttpResponse], None]
    ) -> InferenceRequest | DecodingRequest | None:
        """Submits a request of the fast path, and takes ownership of a body buffer. The response may come before this returns.

        Returns:
            The request, which is still being decoded if its body is large; None if it was refused and `on_response` was called.
        """
        rows = None
        if head.may_be_slow and self.slow_bodies.is_slow(head, body):
            return self.slow_bodies.submit(head, request_id, body, on_response)
        try:
            if head.selector is not None or head.target.endpoint.release.retiring:
                head, rows = self.routes.select(head, body)
            return submit_request(head, request_id, body, on_response, None, rows)
        except PexdockError as exc:
            if isinstance(body, BodyBuffer):
                body.close()
            on_response(self.refusal(exc, request_id, head.target))
            return None

    def note_refused(self, raw_path: bytes) -> None:
        """Notes that a path could not be routed. If a model that is not up has it, the model is needed."""
        model = self.routes.reserving_model(raw_path)
        if model is not None:
            self._on_model_requested(model)

    @staticmethod
    def refusal(error: PexdockError, request_id: str, target: Target | None) -> HttpResponse:
        """Returns the response to an HTTP request that was refused early; `target` is the target of its path, if known."""
        response = problem_response(error, request_id)
        if target is not None and target.endpoint.metrics is not None:
            target.endpoint.metrics.record_response(response.status)
        return response
