"""Dispatches the work of one release to its workers. All code here runs in the event loop's thread."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from math import inf

from base.errors import Full, PexdockError, Unavailable
from base.ipc.front_door_control import RequestsSent, WorkerUnhealthy
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.request import InferenceRequest
from runtime.front.scheduling.batch_policy import DispatchDecision
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.scheduling.failover import Failover
from runtime.front.scheduling.retry_queue import RetryQueue
from runtime.front.scheduling.scheduler import Scheduler
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.workers.events import WorkItem
from runtime.front.workers.link import WorkerLink


class Dispatcher(Scheduler):
    """Decides which work the workers of one release get next.

    Args:
        release: The release, to which this adds the endpoints.
        limits: Limits of each endpoint's queue.
        deadlines: Deadlines of all requests of the front door.
        failover: Moves work to another release when no worker is left.
        report: Sends reports on workers to the supervisor.
        metrics: Counts requests; None without a metrics configuration.

    Attributes:
        queues: The release's endpoints.
        drained: Set once another routing table is in force and nothing waits here for a worker.
    """

    def __init__(
        self,
        release: ServedRelease,
        limits: QueueLimits,
        deadlines: Deadlines,
        failover: Failover,
        report: Callable[[WorkerUnhealthy | RequestsSent], None],
        metrics: FrontMetrics | None = None,
    ) -> None:
        super().__init__(release, deadlines.timeout_s, sys.maxsize)
        self._report = report
        self.drained = asyncio.Event()
        self.queues: list[EndpointQueue] = []
        for number, spec in enumerate(release.spec.endpoints):
            counts = None if metrics is None else metrics.endpoint_metrics(release.spec.model, release.spec.version, spec.name)
            queue = EndpointQueue(number, spec, self, limits, deadlines, counts)
            queue.siblings = self.queues
            self.queues.append(queue)
        release.endpoints = list(self.queues)
        self._failover = failover
        self._retries = RetryQueue()
        self._loop = asyncio.get_running_loop()  # looking it up takes a system call each time
        self._turn = 0
        self._woken = self._lost_links = self._stopping = False
        self._on_retired: Callable[[], None] | None = None

    def retire(self, on_retired: Callable[[], None]) -> None:
        """Stops taking new requests. Calls `on_retired` when all waiting requests are answered."""
        self.release.retiring, self._on_retired = True, on_retired
        self.wake()

    def stop(self) -> None:
        """Fails all waiting work if no worker is left, since no worker will be started any more."""
        self._stopping = True
        self.wake()

    def wake(self) -> None:
        """Dispatches at the end of this iteration of the loop, so that requests that arrive together share batches."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._dispatch)

    # ---- events of workers

    def on_capacity(self) -> None:
        """Dispatches again, because a worker has replied."""
        self.wake()

    def on_requests_sent(self, socket: str, requests: int) -> None:
        """Reports the number of requests that were sent to a worker."""
        self._report(RequestsSent(socket, requests))

    def on_unhealthy(self, socket: str, reason: str) -> None:
        """Reports a worker that must be replaced."""
        self._report(WorkerUnhealthy(socket, reason))

    def on_batch_failed(self, requests: list[InferenceRequest], error: PexdockError) -> None:
        """Fails the requests that caused an error, and retries the others."""
        self._retries.on_batch_failed(requests, error)
        self.wake()

    def on_lost(self, items: Sequence[WorkItem], *, exited: bool, poison: WorkItem | None) -> None:
        """Quarantines the work of a worker that has exited. Fails the work of a worker that broke the protocol."""
        self._lost_links = True
        self.workers.update_up()
        for item in items:
            if exited:
                self.quarantine.on_crash(item, poison=item is poison)
            else:
                item.fail(Unavailable("the worker that had this request broke the protocol and was given up; try again"), blamed=True)
        self.wake()

    # ---- dispatching

    def _dispatch(self) -> None:
        self._woken = False
        workers, release = self.workers, self.release
        if self._lost_links:
            self._lost_links = False
            workers.drop_closed()
        now_s = time.monotonic()
        if self.quarantine.waiting or self.quarantine.is_active:
            self.quarantine.send_suspects(workers)
        if self.checks:
            self._send_checks()
        while self._has_waiting() and (link := workers.least_busy()) is not None:
            requests = self._next_batch(link.in_flight.computing_rows, now_s)
            if not requests:
                break
            self._send_batch(link, requests)
        for queue in self.queues:
            queue.policy.arrivals = 0
        if not workers.links:
            self._give_up_waiting()
        elif release.outcomes is not None and not release.outcomes.has_room:
            self._give_up_excess(final=release.retiring)
        waits = self._has_waiting()
        self.capacity_wanted = waits or release.retiring
        if self._on_retired is not None and not waits:
            self._finish_retirement(self._on_retired)

    def _next_batch(self, computing_rows: int, now_s: float) -> list[InferenceRequest]:
        """Returns the next batch for a worker that already has `computing_rows`; empty if no request waits, or all should wait longer."""
        if self._retries.batches and (requests := self._retries.take_batch()):
            return requests
        queues = self.queues
        for _ in queues:
            self._turn = (self._turn + 1) % len(queues)
            queue = queues[self._turn]
            waiting = queue.waiting
            if waiting.size:
                decision = queue.policy.decide(waiting.rows, computing_rows, now_s)
                if decision is DispatchDecision.GO:
                    if queue.max_wait_s < inf:
                        queue.refuse_late(now_s)
                    requests = waiting.take_batch()
                    if self.release.outcomes is not None:
                        requests = self._within_limit(requests)
                    if requests:
                        return requests
                elif decision is DispatchDecision.HOLD:
                    self.wake()
        return []

    def _within_limit(self, requests: list[InferenceRequest]) -> list[InferenceRequest]:
        """Returns the requests of a batch that may be sent by the limit of failures. The others wait again."""
        outcomes = self.release.outcomes
        assert outcomes is not None
        sent = [request for request in requests if outcomes.begin_request(request.counted_as)]
        for request in requests[len(sent) :]:
            self.queues[request.endpoint.number].waiting.add_request(request)
        return sent

    def _has_waiting(self) -> bool:
        for queue in self.queues:  # runs for each batch, and a generator takes twice as long
            if queue.waiting.size:
                return True
        return bool(self._retries.batches or self.quarantine.waiting or self.checks)

    def _send_batch(self, link: WorkerLink, requests: list[InferenceRequest]) -> None:
        try:
            link.send_batch(requests)
        except Full as exc:
            for request in requests:
                request.fail(exc)
        except Unavailable:  # the worker turned out to be gone while sending: another worker gets the same batch
            self._retries.put_back(requests)

    def _send_checks(self) -> None:
        while self.checks and (link := self.workers.least_busy_for_check()) is not None:
            check, _ = self.checks.popitem(last=False)
            try:
                link.send_check(check)
            except Unavailable:  # the worker turned out to be gone while sending
                self.enqueue_check(check)

    def _give_up_waiting(self) -> None:
        """Moves waiting work to another release because no worker is left. Fails the rest if no worker will come."""
        if self.workers.leaving or not (self._stopping or self.release.retiring):
            self._failover.pass_on(self.queues)
            return
        items: list[WorkItem] = [*self.quarantine.take_all(), *self.checks, *self._retries.take_all()]
        self.checks.clear()
        for queue in self.queues:
            items += queue.waiting.take_all()
        error = Unavailable(f"the last worker of {self.release.spec.model} has exited; try again")
        self._failover.hand_over(items, error, may_move=not self._stopping)

    def _give_up_excess(self, *, final: bool) -> None:
        """Moves requests that the limit of failures keeps back to another release. If that is final, fails those that cannot move."""
        if not final:
            self._failover.pass_on(self.queues)
            return
        waiting = [request for queue in self.queues for request in queue.waiting.take_all()]
        error = Unavailable(f"{self.release.spec.model} {self.release.spec.version} failed its probation; try again")
        self._failover.hand_over(waiting, error, may_move=True)

    def _finish_retirement(self, on_retired: Callable[[], None]) -> None:
        self.drained.set()
        self.workers.retire_except(())
        if not any(link.open for link in self.workers.leaving):
            self._on_retired = None
            on_retired()
