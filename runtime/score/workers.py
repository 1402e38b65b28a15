"""Computes batches in workers of this machine: starts them as the supervisor does, and sends them batches as a front door does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from sys import maxsize
from urllib.parse import quote, urlencode

import pyarrow as pa

from base.backoff import Backoff
from base.endpoint.context import RequestContext
from base.errors import BadResult, Cell, Misfit, NotFound, PexdockError, Unavailable
from base.ipc.control import Ready
from base.ipc.front_door_control import RequestsSent, Route, WorkerUnhealthy
from base.ipc.release_spec import EndpointSpec, ReleaseSpec
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse, drop_response
from runtime.front.requests.target import Target, parse_query
from runtime.front.routing.path_trie import PathTrie
from runtime.front.scheduling.admission import check_parameters, submit_copy, submit_divided, submit_suspect
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.dispatchers import Dispatchers
from runtime.front.scheduling.divided_request import GroupedRequest
from runtime.front.scheduling.quarantine import PoisonRequest
from runtime.pex.file import PexFile
from runtime.score.refusals import Answer, WorkerEnded, run_on_thread
from runtime.settings import Settings
from runtime.supervisor.processes.worker import WorkerFailure
from runtime.supervisor.processes.worker_run import WorkerTemplate
from runtime.supervisor.releases.worker_check import spec_mismatch, worker_mismatch
from runtime.supervisor.releases.worker_set import WorkerSet

_RESTART_DELAY_MAX_S = 1.0
"""A row that crashes its worker is found by some crashes, which nobody else suffers from."""

_STOP_S = 5.0
"""Time limit for workers to exit, in seconds. They have nothing to do any more."""

BATCHES_PER_WORKER = 2
"""A worker computes one batch while the next one waits in its socket."""


class LocalWorkers:
    """The workers of one release, and the queue of batches for them. It is the `WorkerOwner` of its workers, and a `Scorer`.

    Args:
        template: Parameters of their start.
        pex: The file of the release.
        sha256: Digest of the file.
        workers: Number of workers.
        settings: Limits.

    Attributes:
        warnings: The warnings of the worker that was ready last.
        broken: Holds the error once no worker can compute anything any more.
    """

    def __init__(self, template: WorkerTemplate, pex: PexFile, sha256: str, workers: int, settings: Settings) -> None:
        backoff = Backoff(min(settings.restart_delay_min_s, _RESTART_DELAY_MAX_S), _RESTART_DELAY_MAX_S)
        self._template = dataclasses.replace(template, backoff=backoff)
        self._pex, self._sha256, self._settings, self._count = pex, sha256, settings, workers
        limits = QueueLimits(
            maxsize,
            maxsize,
            columns_max=settings.columns_max,
            request_max_groups=settings.request_max_groups,
            response_max_bytes=int(settings.response_max_bytes),
        )
        deadlines = Deadlines(settings.score_timeout_s)
        self._dispatchers = Dispatchers(limits, int(settings.shared_memory_max_bytes), deadlines, report=self._on_report)
        self._set = WorkerSet(self, workers, 0, 0, lambda: 1)
        self._spec: ReleaseSpec | None = None
        self.warnings: list[str] = []
        self._sockets: list[str] = []
        self._crashes = 0
        self._ready = asyncio.Event()
        self._ids = map(str, count(1))
        self._head: RequestHead
        self._context: RequestContext | None = None
        self.broken: asyncio.Future[PexdockError] = asyncio.get_running_loop().create_future()

    # ---- the beginning and the end

    async def start(self) -> None:
        """Starts the workers, and waits for the first.

        Raises:
            PexdockError: The model cannot run.
        """
        self._set.start(self._template)
        ready = asyncio.create_task(self._ready.wait())
        self.broken.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready])
        if self.broken.done():
            raise self.broken.result()

    async def choose(self, endpoint: str | None, parameters: Sequence[tuple[str, str]]) -> None:
        """Chooses the endpoint and the parameters of all batches, which a worker checks.

        Raises:
            PexdockError: There is no such endpoint, it cannot score files, or a parameter does not fit.
        """
        (release,) = self._dispatchers.releases
        found = _choose_endpoint(release.endpoints, endpoint)
        target = _target(found, parameters)
        self._head = RequestHead(target, "", "")
        self._head.timeout_s = self._settings.score_timeout_s
        await check_parameters(self._head)
        self._context = RequestContext("", {}, parse_query(target.query)) if found.spec.unbatched else None

    async def stop(self) -> None:
        """Stops the workers."""
        self._dispatchers.apply([])
        await self._dispatchers.wait_drained()
        self._set.stop()
        for worker in self._set.processes:
            worker.on_unrouted()
        children = [worker.child for worker in self._set.processes if worker.child is not None]
        exits = [asyncio.create_task(child.exited.wait()) for child in children]
        if exits:
            await asyncio.wait(exits, timeout=_STOP_S)
        for child in children:
            child.close()

    # ---- batches, as a Scorer has them

    @property
    def spec(self) -> EndpointSpec:
        """The endpoint."""
        return self._head.target.endpoint.spec

    @property
    def decoder(self) -> RowDecoder:
        """Decodes rows for the endpoint."""
        return self._head.target.endpoint.decoder

    @property
    def is_whole(self) -> bool:
        """True if a batch is one request as a whole, of which all groups are computed at the same time."""
        return self.spec.whole or bool(self.spec.group_by)

    @property
    def empty(self) -> pa.RecordBatch | None:
        """A result without rows; None if the endpoint does not declare its results."""
        schema = self._head.target.endpoint.output_schema
        return None if schema is None else ReplyEncoder.for_no_rows(schema).copy_rows(0, 0)

    @property
    def parallel(self) -> int:
        """Number of batches that keep all workers busy."""
        return BATCHES_PER_WORKER * self._count * self.spec.max_concurrency

    async def score(self, rows: Rows, *, is_suspect: bool = False) -> Answer:
        """Returns the answer to these rows; see `Scorer.score`."""
        if self.spec.group_by:
            rows = await run_on_thread(self.decoder.group_rows, rows)
            return await submit_divided(ScoredGroups(self._head, rows, next(self._ids), drop_response, self._context)).result
        request = ScoredRequest(self._head, rows, next(self._ids), self._context)
        if is_suspect:
            request.crash_count = 1
            submit_suspect(request)
        else:
            submit_copy(request)
        try:
            return Answer(await request.result)
        except PoisonRequest as exc:
            raise WorkerEnded(exc.detail) from exc

    # ---- events of workers (processes.worker.WorkerOwner)

    @property
    def loaded(self) -> bool:
        """True if a worker was ever ready."""
        return self._ready.is_set()

    @property
    def start_is_urgent(self) -> bool:
        """True: nothing else is served by this process."""
        return True

    def on_described(self, spec: ReleaseSpec) -> None:
        """Refuses the release if it does not match its file."""
        if mismatch := spec_mismatch(spec, self._pex):
            self._break(mismatch)

    def accept_worker(self, ready: Ready) -> bool:
        """Accepts a worker that matches the file."""
        if mismatch := worker_mismatch(ready, self._pex):
            self._break(mismatch)
            return False
        self._spec, self.warnings, self._crashes = ready.release, ready.warnings, 0
        return True

    def on_worker_exit(self, failure: WorkerFailure) -> None:
        """Gives up if the model cannot be loaded, or crashes each time before it is ready."""
        self._crashes += 1
        if failure.final or self._crashes >= self._settings.probation_crashes_max + 2 * self._count:
            self._break("\n".join([f"{self._template.title}: {failure.reason}", *(f"  {line}" for line in failure.last_lines)]))

    def changed(self) -> None:
        """Connects to workers that have become ready."""
        sockets = self._set.sockets
        if self._spec is not None and sockets != self._sockets:
            self._sockets = sockets
            self._dispatchers.apply([Route(self._spec, sockets, self._sha256)])
            if sockets:
                self._ready.set()

    def on_requests_sent(self) -> None:
        """Does nothing: workers are not recycled."""

    def _on_report(self, message: WorkerUnhealthy | RequestsSent) -> None:
        for worker in self._set.processes:
            worker.on_front_door_report(message)

    def _break(self, reason: str) -> None:
        if not self.broken.done():
            self.broken.set_result(Unavailable(reason))


class ScoredRequest(InferenceRequest):
    """A request whose result stays in this process.

    Attributes:
        result: Its result, or its error.
    """

    __slots__ = ("result",)

    def __init__(self, head: RequestHead, rows: Rows, request_id: str, context: RequestContext | None) -> None:
        super().__init__(head, rows, request_id, drop_response, context)
        self.group = (self.group, request_id)  # shares no batch with others, so that the results are always the same
        self.result: asyncio.Future[pa.RecordBatch] = asyncio.get_running_loop().create_future()
        self.row_count = self.row_count or 1  # a whole request without rows takes a batch of its own

    @property
    def needs_body(self) -> bool:
        """False: nothing is encoded."""
        return False

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:  # noqa: ARG002
        """Ends the request with its rows in a batch's reply."""
        if not self.answered:
            self._end(200)
            if not self.result.done():
                self.result.set_result(replies.copy_rows(start, self.row_count))

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:  # noqa: ARG002
        """Ends the request with an error."""
        if not self.answered:
            self._end(500)
            if not self.result.done():
                self.result.set_exception(error)


class ScoredGroups(GroupedRequest):
    """A request whose groups of rows are calls of their own, and whose results stay in this process.

    Attributes:
        result: The results of the groups, and the errors of those that failed.
    """

    __slots__ = ("result",)

    def __init__(
        self, head: RequestHead, rows: Rows, request_id: str, respond: Callable[[HttpResponse], None], context: RequestContext | None
    ) -> None:
        super().__init__(head, rows, request_id, respond, context)
        self.result: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:  # noqa: ARG002
        """Ends the request, and all its parts, with an error."""
        if not self.answered:
            self._end(500)
            if not self.result.done():
                self.result.set_exception(error)
        self.cancel()

    async def _respond_joined(self) -> None:
        try:
            results = await asyncio.to_thread(self._joined) if self._results else None
        except BadResult as exc:
            self.fail(exc)
            return
        self._end(200)
        if not self.result.done():
            empty = ReplyEncoder.for_no_rows(self.endpoint.output_schema).copy_rows(0, 0)
            self.result.set_result(
                Answer(empty if results is None else results, [self._of_all_rows(*each) for each in self._errors.items()])
            )

    def _of_all_rows(self, number: int, error: PexdockError) -> PexdockError:
        """Returns the error of a group with a cell for each of its rows."""
        starts, order = self._grouped.groups.starts, self._grouped.groups.order
        places = range(starts[number], starts[number + 1])
        named = {cell.row: cell for cell in error.cells}
        rows = list(places) if order is None else order[places.start : places.stop].to_list()
        kind = WorkerEnded(error.detail) if isinstance(error, PoisonRequest) else error
        return kind.copy_for_caller(cells=[named.get(row) or Cell(row, None, error.detail) for row in rows])


def _choose_endpoint(endpoints: Sequence[ServedEndpoint], name: str | None) -> ServedEndpoint:
    """Returns the endpoint with a name or a path, or the only one."""
    names = ", ".join(f"{each.spec.name} ({each.spec.path})" for each in endpoints)
    found = [each for each in endpoints if name is None or name in (each.spec.name, each.spec.path)]
    if len(found) != 1:
        raise NotFound(f"the model has several endpoints; name one of {names}" if found else f"no endpoint {name!r}; name one of {names}")
    spec = found[0].spec
    if spec.raw or spec.streams:
        kind = "takes undecoded bodies" if spec.raw else "answers in parts"
        raise Misfit(f"the endpoint {spec.name} {kind}, so it cannot score files; name one that takes rows and returns all results at once")
    return found[0]


def _target(endpoint: ServedEndpoint, parameters: Sequence[tuple[str, str]]) -> Target:
    """Returns the target of a request with these parameters in its path and its query.

    Raises:
        Misfit: A parameter is missing, is not declared, or has an invalid value.
    """
    spec = endpoint.spec
    given: Mapping[str, str] = {name: value for name, value in parameters if name in spec.parameters}
    of_query = [(name, value) for name, value in parameters if name not in spec.parameters]
    times = Counter(name for name, _ in parameters)
    cells = [Cell(None, name, "the parameter is missing") for name in spec.parameters if name not in given]
    cells += [Cell(None, name, f"the parameter is given {times[name]} times") for name in spec.parameters if times[name] > 1]
    if not (spec.query or spec.unbatched):
        cells += [Cell(None, name, "no such parameter") for name, _ in of_query]
    if cells:
        raise Misfit("; ".join(f"--param {cell.column}: {cell.reason}" for cell in cells), cells=cells)
    trie: PathTrie[ServedEndpoint] = PathTrie()
    trie.add_path(spec.path, endpoint)
    path = "/".join(quote(given[part[1:-1]], safe="") if part.startswith("{") else part for part in spec.path.split("/")).encode()
    try:
        match = trie.match(path)
    except Misfit as exc:
        wrong = [f"--param {cell.column}={given[cell.column or '']}: {cell.reason}" for cell in exc.cells]
        raise Misfit(f"{'; '.join(wrong)}; a part of a path is not empty, . or .., and has no slash", cells=exc.cells) from exc
    assert match is not None
    target = Target(endpoint, match.parameters, path, urlencode(of_query).encode())
    target.require_valid()
    return target
