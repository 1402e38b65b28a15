"""The requests of one endpoint that wait for a worker."""

from __future__ import annotations

import sys

from base.errors import DeadlineExceeded, Full, PexdockError, TooLarge
from base.ipc.release_spec import EndpointSpec
from runtime.front.requests.batch_time import estimate_wait_s
from runtime.front.requests.deadlines import Deadlines, Timed
from runtime.front.requests.endpoint import ServedEndpoint
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.scheduling.batch_policy import DispatchPolicy
from runtime.front.scheduling.batch_queue import BatchQueue, QueueLimits
from runtime.front.scheduling.divided_request import DividedRequest
from runtime.front.scheduling.scheduler import Scheduler
from runtime.front.telemetry.metrics import RequestMetrics, now_s

EXPECTED_WAIT_MAX_PART = 0.5
"""Part of its time limit that a request may be expected to wait. With 1.0, most requests that were accepted at the limit expired, since the
estimate is accurate only to a factor of two."""


class EndpointQueue(ServedEndpoint):
    """A served endpoint, with the requests that wait for a worker.

    Args:
        number: Position in the release's spec.
        spec: Describes the endpoint.
        scheduler: The dispatcher of its release.
        limits: Limits of the queue.
        deadlines: Deadlines of all requests of the front door.
        metrics: Counts its requests; None without a metrics configuration.

    Attributes:
        request_max_rows: Limit of the rows of a request.
        call_max_rows: Number of rows from which a request may be divided.
        waiting: The requests that wait.
        policy: Decides when the next batch is sent.
        siblings: All queues of the release, itself included.
    """

    def __init__(
        self,
        number: int,
        spec: EndpointSpec,
        scheduler: Scheduler,
        limits: QueueLimits,
        deadlines: Deadlines,
        metrics: RequestMetrics | None,
    ) -> None:
        super().__init__(number, spec, scheduler.release, deadlines, metrics, priorities=limits.priorities)
        self.scheduler = scheduler
        self.max_wait_s = limits.max_wait_s
        self.request_max_rows, self._request_max_groups = limits.request_max_rows, limits.request_max_groups
        self.call_max_rows = 0 if spec.group_by else sys.maxsize if spec.call_max_rows is None else spec.call_max_rows
        max_rows = 1 if spec.unbatched or spec.whole else spec.batch_max_rows
        self.policy = DispatchPolicy(max_rows, spec.batch_max_delay_ms / 1000)
        self.waiting: BatchQueue[InferenceRequest] = BatchQueue(max_rows, limits)
        self.siblings: list[EndpointQueue] = []

    @property
    def parallel_calls(self) -> int:
        """Number of calls of the handler that the workers can compute at the same time."""
        return self.scheduler.workers.up_count * self.spec.max_concurrency

    def check_room(self, head: RequestHead, size_bytes: int) -> None:
        """Checks that a request may wait, as far as that is known before its body is decoded.

        Raises:
            Full: the queue is full, or the request would wait for too long.
        """
        self.waiting.check_room(1, size_bytes)
        same_shape = self.input_schema is not None and not self.spec.unbatched  # otherwise rows of another shape form another group
        before = self.waiting.batches_before(head.urgency, head.target.group if same_shape else None)
        if not before:
            return
        others = [(each.waiting.batches, each.batch_time) for each in self.siblings if each is not self and each.waiting.size]
        # + 1 for the batch that is being computed.
        expected_s = estimate_wait_s(before + 1, max(1, self.scheduler.workers.up_count), self.batch_time, others)
        if expected_s > min(head.timeout_s * EXPECTED_WAIT_MAX_PART, self.max_wait_s):
            raise Full(f"a request for this endpoint would wait {expected_s:.1f} s, which is too long; try again later")

    def add_request(self, request: InferenceRequest) -> None:
        """Queues a new request. The caller sets its deadline.

        Raises:
            Full: the queue is full, or the workers cannot hold another streamed response. Nothing was added.
        """
        streams = self.release.open_streams if self.spec.streams else None
        if streams is not None and len(streams) >= (streams_max := self.scheduler.workers.streams_max):
            model = self.release.spec.model
            raise Full(f"too many streamed responses of {model}: {len(streams)} open, limit {streams_max}; try again later")
        self.waiting.add_request(request)
        if streams is not None:
            streams.add(request)

    def add_divided(self, request: DividedRequest, size_bytes: int) -> DividedRequest:
        """Divides a new request, queues its parts, and sets their deadlines. Returns the request.

        Raises:
            TooLarge: It has too many groups. Nothing was added.
            Full: the queue is full. Nothing was added.
        """
        if request.group_count > self._request_max_groups:
            limit = f"limit {self._request_max_groups}; send fewer groups at once, or raise request_max_groups"
            raise TooLarge(f"the request has {request.group_count} groups, {limit}")
        parts = request.divide(self.parallel_calls)
        for part in parts:
            part.size_bytes = size_bytes // len(parts)
            part.queued_s = 0.0 if self.metrics is None else now_s()
        self.waiting.add_parts(parts)
        for part in parts:
            self.deadlines.watch(part)
        return request

    def enqueue(self, request: InferenceRequest) -> None:
        """Queues a request whose deadline is already set, or fails it."""
        try:
            self.add_request(request)
        except PexdockError as exc:
            request.fail(exc)
        else:
            self.scheduler.wake()

    def refuse_late(self, now_s: float) -> None:
        """Fails requests at the head of the queue that have waited too long, longer than was estimated on their arrival."""
        while late := self.waiting.take_late(lambda each: now_s - each.arrived_s > self.max_wait_s):
            for request in late:
                request.fail(Full(f"no worker was free within {self.max_wait_s:g} s; try again later"))

    def on_expired(self, request: Timed) -> None:
        """Fails a request whose deadline has passed. A worker that has it may hang."""
        assert isinstance(request, InferenceRequest)
        waited = self.waiting.remove_request(request)
        request.fail(DeadlineExceeded(f"not answered within {request.head.timeout_s:g} s"), blamed=not waited)
        request.cancel()
        if waited:
            self.scheduler.wake()
        else:
            self.scheduler.hangs.watch(request)

    def on_abandoned(self, request: Timed) -> None:
        """Removes a request whose client has disconnected. A worker that already has it computes it unless its handler checks for that."""
        assert isinstance(request, InferenceRequest)
        if self.waiting.remove_request(request):
            self.scheduler.wake()
        else:
            self.scheduler.hangs.watch(request)
