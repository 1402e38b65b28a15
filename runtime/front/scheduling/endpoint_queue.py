"""One endpoint of a release in a front door: how its rows are read, and those that wait."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING

import pyarrow as pa

from base.errors import DeadlineExceeded, Full, PexdockError
from base.ipc import frames
from base.ipc.release_spec import EndpointSpec
from runtime.front.codecs.decoder import RowDecoder
from runtime.front.requests.deadlines import Deadlines
from runtime.front.requests.headers import URGENCY
from runtime.front.requests.parameter_question import ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.target import RequestHead
from runtime.front.scheduling.batch_policy import DispatchPolicy
from runtime.front.scheduling.batch_queue import BatchQueue, QueueLimits
from runtime.front.scheduling.wait_estimate import WaitEstimator
from runtime.front.telemetry.metrics import FrontMetrics, now_s
from runtime.front.telemetry.outcomes import OutcomeCounter

if TYPE_CHECKING:
    from runtime.front.scheduling.dispatcher import Dispatcher


WAIT_PART = 0.5
"""Of its time that a request may be expected to wait. Where it was all, most of what was accepted at the edge expired: what is expected is
not known to a half."""


class EndpointQueue:
    """One endpoint of a release: how to decode its rows, and those that wait."""

    def __init__(
        self,
        number: int,
        words: EndpointSpec,
        bounds: QueueLimits,
        release: Dispatcher,
        deadlines: Deadlines,
        recorder: FrontMetrics | None,
    ) -> None:
        self.number = number
        self.spec = words
        self.dispatcher = release
        self.deadlines = deadlines
        self.input_schema = _schema(words.input_schema)
        self.output_schema = _schema(words.output_schema)
        self.replies = frames.FrameReader(self.output_schema)
        self.decoder = RowDecoder(self.input_schema, words.unexpected)
        self.streams = words.streams
        self.dispatch_policy = DispatchPolicy(1 if words.unbatched else words.batch_max_rows, words.batch_max_delay_ms / 1000)
        self.waiting: BatchQueue[InferenceRequest] = BatchQueue(words.batch_max_rows, bounds)
        self._bounds = bounds
        self.wait_estimator = WaitEstimator()
        self.metrics = None if recorder is None else recorder.endpoint_metrics(release.spec.model, release.spec.version, words.name)
        self.outcomes: OutcomeCounter | None = None  # where the release is watched

    def reads_as(self, other: EndpointQueue) -> bool:
        """Whether the rows that one of them has read are those that the other would."""
        mine, theirs = self.spec, other.spec
        return mine.input_schema == theirs.input_schema and mine.unexpected == theirs.unexpected and mine.raw == theirs.raw

    def timeout_s(self, wished_ms: int | None) -> float:
        """The time of a request that wishes for so much; of one that does not, what the author says. Never more than the operator's."""
        if wished_ms is None:
            wished_ms = self.spec.timeout_ms
        return self.deadlines.timeout_s if wished_ms is None else min(wished_ms / 1000, self.deadlines.timeout_s)

    def urgency(self, wished: int) -> int:
        """What such a wish comes to here."""
        return wished if self._bounds.priorities else URGENCY

    def check_room(self, asked: RequestHead, size_bytes: int) -> None:
        """Whether a request may wait, as far as its rows need not be known.

        Raises:
            Full: too much waits, or what is before it would take all the time that it has, or may wait.
        """
        waiting = self.waiting
        if not waiting:
            return
        waiting.check_room(1, size_bytes)
        known = self.input_schema is not None and not self.spec.unbatched  # else rows of another shape are another group
        before = waiting.batches_before(asked.urgency, asked.target.group if known else None)
        if before and (expected_s := self.dispatcher.wait_s(self, before)) > min(asked.timeout_s * WAIT_PART, self._bounds.max_wait_s):
            raise Full(f"a request for this endpoint would wait {expected_s:.1f} s, which is too long; try again later")

    def take(self, now_s: float) -> list[InferenceRequest]:
        """The next batch. What has waited for too long, against all that was expected when it came, is refused."""
        max_wait_s = self._bounds.max_wait_s
        if max_wait_s < inf:
            while late := self.waiting.take_late(lambda each: now_s - each.came_s > max_wait_s):
                for request in late:
                    request.fail(Full(f"a worker was not free within {max_wait_s:g} s; try again later"))
        return self.waiting.take()

    def submit(self, request: InferenceRequest) -> None:
        """Lets the request wait for a worker of a release that is up. It is answered later, or at once where it cannot wait."""
        if self._admit(request):
            if self.metrics is not None:
                request.queued_s = now_s()
            self.deadlines.watch(request)
            self.dispatch_policy.came()
            self.dispatcher.wake()

    def inherit(self, request: InferenceRequest | ParameterCheck) -> None:
        """Lets a request wait here that waited for the same endpoint of a release that is gone. Its time goes on."""
        if isinstance(request, ParameterCheck):
            request.endpoint = self
            self.dispatcher.ask(request)
            return
        request.endpoint.dispatcher.streams.discard(request)
        request.endpoint = self
        if request.crash_count:
            self.dispatcher.suspect(request)
        elif self._admit(request):
            self.dispatcher.wake()

    def _admit(self, request: InferenceRequest) -> bool:
        """Whether it waits now; where it cannot, it is answered."""
        try:
            if self.streams:
                self.dispatcher.begin(request)
            self.waiting.add(request)
        except PexdockError as exc:
            request.fail(exc)
            return False
        return True

    def expire(self, request: InferenceRequest) -> None:
        """The request's time is over: it is answered so, and its rows are not sent if they were not yet."""
        waited = self.waiting.remove(request)
        request.fail(DeadlineExceeded(f"not answered within {request.timeout_s:g} s"), blamed=not waited)
        request.cancel()
        if waited:
            self.dispatcher.freed()
        else:
            self.dispatcher.overdue(request)

    def abandon(self, request: InferenceRequest) -> None:
        """The client is gone: the request leaves the queue; what a worker already has, it computes in vain unless its handler asks."""
        request.abandon()
        if self.waiting.remove(request):
            self.dispatcher.freed()

    def ended(self, request: InferenceRequest) -> None:
        """The request is answered, or nobody waits for it; safe to call again."""
        self.deadlines.forget(request)
        if self.streams:
            self.dispatcher.streams.discard(request)


def _schema(message: bytes | None) -> pa.Schema | None:
    return None if message is None else pa.ipc.read_schema(pa.py_buffer(message))
