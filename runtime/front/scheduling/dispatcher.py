"""One release in a front door: its endpoints, its workers, and the requests that wait for one of them.

Everything here runs in the loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

from base.errors import BadResult, DeadlineExceeded, Full, HandlerFailed, Misfit, PexdockError, Reject, Unavailable
from base.ipc.front_door_control import RequestsSent, WorkerUnhealthy
from base.ipc.release_spec import ReleaseSpec
from runtime.front.memory.budget import MemoryBudget
from runtime.front.requests.deadlines import Deadlines, in_time
from runtime.front.requests.parameter_question import AT_ONCE_MAX, ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.scheduling.batch_policy import DispatchDecision
from runtime.front.scheduling.batch_queue import QueueLimits
from runtime.front.scheduling.endpoint_queue import EndpointQueue
from runtime.front.scheduling.error_attribution import attribute_error
from runtime.front.scheduling.quarantine import Quarantine
from runtime.front.scheduling.wait_estimate import wait_s
from runtime.front.telemetry.metrics import FrontMetrics
from runtime.front.telemetry.outcomes import OutcomeCounter
from runtime.front.workers.in_flight import IN_FLIGHT_MAX, STREAMS_MAX
from runtime.front.workers.link import WorkerLink

log = logging.getLogger(__name__)

_GUILT_OF_ONE = (HandlerFailed, BadResult, Misfit, Reject)
"""Failures of a batch that may be one request's fault: the others deserve another try."""

HANGS_AFTER_S = 1.0
"""A worker is let be late by so much with what nobody waits for any more. Then it is taken to hang, and is replaced."""


class Dispatcher:
    """One release: its endpoints, and the links to its workers.

    Args:
        release_id: tells it from others of the same words, which have other content.

    Attributes:
        budget: what its segments may take, those into which bodies come included.
        tell: takes word of each worker to which the channel had to be closed, or that hangs, and of how many requests workers were sent.
        told_requests: of each so many.
        heir: where the requests of an endpoint go that no worker is left to answer; None where they go nowhere.
        left: another release has taken over, and nothing waits here any more for a worker.
    """

    def __init__(
        self,
        release_id: str,
        words: ReleaseSpec,
        bounds: QueueLimits,
        budget: MemoryBudget,
        deadlines: Deadlines,
        recorder: FrontMetrics | None = None,
    ) -> None:
        self.id = release_id
        self.tell: Callable[[WorkerUnhealthy | RequestsSent], None] = lambda _: None
        self.told_requests = sys.maxsize
        self.failover_target: Callable[[EndpointQueue], EndpointQueue | None] = lambda _: None
        self.left = asyncio.Event()
        self.spec = words
        self.budget = MemoryBudget(budget.max_bytes, budget)
        self.endpoints = [EndpointQueue(i, each, bounds, self, deadlines, recorder) for i, each in enumerate(words.endpoints)]
        self._links: dict[str, WorkerLink] = {}
        self._leaving: list[WorkerLink] = []  # they still have something to answer
        self._loop = asyncio.get_running_loop()  # to ask for it costs a system call each time
        # Batches to be sent again in parts, before anything that waits. Bounded by what was in flight.
        self._again: deque[list[InferenceRequest]] = deque()
        self._suspects = Quarantine()
        self._careful = self._ending = False
        self._looking: set[WorkerLink] = set()
        self.streams: set[InferenceRequest] = set()
        self._turn = 0
        self._woken = self._lost = False
        self.retiring = False
        self._questions: OrderedDict[ParameterCheck, None] = OrderedDict()  # that wait for a worker, at most one for each connection
        self._retired: Callable[[], None] | None = None

    @property
    def up(self) -> bool:
        """Whether a worker can take batches."""
        for link in self._links.values():  # noqa: SIM110 - asked for each request, and a generator takes twice as long
            if link.up:
                return True
        return False

    @property
    def takes_requests(self) -> bool:
        """Whether it can, and no other has taken over."""
        return self.up and not self.retiring

    def check_up(self) -> None:
        """Raises Unavailable when no worker is there to answer, or about to say who it is."""
        if not (self.up or any(link.open and not link.retiring for link in self._links.values())):
            raise Unavailable(f"no worker of {self.spec.model} is ready; try again later")

    def begin(self, request: InferenceRequest) -> None:
        """Counts in a request whose answer will be streamed.

        Raises:
            Full: as many are streamed already as the workers can hold.
        """
        if len(self.streams) >= STREAMS_MAX * sum(link.up for link in self._links.values()):
            raise Full(f"{len(self.streams)} answers of {self.spec.model} are being streamed, and no more may; try again later")
        self.streams.add(request)

    def wait_s(self, endpoint: EndpointQueue, before: int) -> float:
        """How long a request for this endpoint would wait, behind so many batches and the one that is being computed."""
        others = [(each.waiting.batches, each.wait_estimator) for each in self.endpoints if each is not endpoint and each.waiting]
        return wait_s(before + 1, max(1, sum(link.up for link in self._links.values())), endpoint.wait_estimator, others)

    def watch(self, tally: OutcomeCounter | None) -> None:
        """From now on `tally` is told how requests end; None for nobody."""
        for endpoint in self.endpoints:
            endpoint.outcomes = tally

    def bound(self, shared_memory_max_bytes: int) -> None:
        """From now on its segments may take so much. Those that are there stay."""
        self.budget.max_bytes = shared_memory_max_bytes

    @property
    def watched(self) -> bool:
        """Whether somebody is told how requests end."""
        return any(endpoint.outcomes is not None for endpoint in self.endpoints)

    def leave(self, sockets: Sequence[str]) -> None:
        """Retires the links to all others."""
        for path in [path for path in self._links if path not in sockets]:
            self._leave(self._links.pop(path))

    def _leave(self, link: WorkerLink) -> None:
        self._leaving.append(link)
        link.retire()

    def connect(self, sockets: Sequence[str]) -> list[WorkerLink]:
        """Makes links to those that are new. Returns them, not yet welcomed."""
        made = []
        for path in sockets:
            if path not in self._links:
                try:
                    self._links[path] = link = WorkerLink(path, self, self.budget)
                except PexdockError as exc:
                    log.warning("%s %s: %s", self.spec.model, self.spec.version, exc)
                    continue
                made.append(link)
        return made

    def retire(self, done: Callable[[], None]) -> None:
        """Takes no new requests from now on; calls `done` when all that waited is answered."""
        self.retiring, self._retired = True, done
        self.wake()

    def ask(self, question: ParameterCheck) -> None:
        """Lets a question wait for a worker. It is answered later."""
        if question.alone:
            self._suspects.wait(question)
        else:
            self._questions[question] = None
        self.wake()

    def forget(self, question: ParameterCheck) -> None:
        """Nobody waits for its answer any more, or it has it."""
        self._questions.pop(question, None)
        self.overdue(question)

    def wake(self) -> None:
        """Sends what can be sent, at the end of this turn of the loop: requests that came in together go together."""
        if not self._woken:
            self._woken = True
            self._loop.call_soon(self._pump)

    def freed(self) -> None:
        """A worker has room for a batch again."""
        if self._waits() or self.retiring:
            self.wake()

    def lost(
        self, requests: Sequence[InferenceRequest | ParameterCheck], *, died: bool, culprit: InferenceRequest | ParameterCheck | None = None
    ) -> None:
        """A link has closed, whose worker had these. One that broke a rule, rather than died, might do so again.

        Args:
            requests: all of them.
            died: the worker has ended.
            culprit: of which it did.
        """
        self._lost = True
        for request in requests:
            if died:
                self._suspects.add(request, guilty=request is culprit)
            else:
                request.fail(Unavailable("the worker that had this request was given up; try again"), blamed=True)
        self.wake()

    def overdue(self, request: InferenceRequest | ParameterCheck) -> None:
        """The time of a request is over, or of a question about it. Looks again in a while whether the worker that has it hangs."""
        for link in (*self._links.values(), *self._leaving):
            if link not in self._looking and link.has(request):
                self._looking.add(link)
                self._loop.call_later(HANGS_AFTER_S, self._look, link)

    def _look(self, link: WorkerLink) -> None:
        self._looking.discard(link)
        left_s = self.endpoints[0].deadlines.timeout_s - link.silent_s  # clients and authors may give less than a batch takes
        if link.hangs and left_s > 0:
            self._looking.add(link)
            self._loop.call_later(left_s, self._look, link)
        elif link.hangs:
            log.warning("a worker of %s %s answers nothing", self.spec.model, self.spec.version)
            self.tell(WorkerUnhealthy(link.path, "it did not answer a request in time, nor afterwards"))

    def tell_worked(self, link: WorkerLink) -> None:
        """So many requests were sent to this worker that it is time to tell."""
        link.untold, requests = 0, link.untold
        self.tell(RequestsSent(link.path, requests))

    def end(self) -> None:
        """No worker will be started any more: what waits for one is answered."""
        self._ending = True
        self.wake()

    def failed(self, requests: list[InferenceRequest], error: PexdockError) -> None:
        """A worker could not answer a batch. Who owns the rows that the error names is told so, and the others get another try.

        Where it names none, each half gets another try, down to the guilty one. Where the time of one of them was over before the batch was
        computed, the others go again without it.
        """
        if isinstance(error, DeadlineExceeded) and len(kept := in_time(requests)) < len(requests):
            self._again.append(kept)
            return
        owned = attribute_error(requests, error) if isinstance(error, _GUILT_OF_ONE) else []
        for index, own in owned:
            requests[index].fail(own)
        requests = [request for request in requests if not request.answered]
        if owned:
            self._again.append(requests)
        elif len(requests) > 1 and isinstance(error, _GUILT_OF_ONE):
            half = len(requests) // 2
            self._again += [requests[:half], requests[half:]]
        else:
            for request in requests:
                request.fail(error)

    def _pump(self) -> None:
        self._woken = False
        if self._lost:
            self._lost = False
            self._links = {path: link for path, link in self._links.items() if link.open}
            self._leaving = [link for link in self._leaving if link.open]
        now = time.monotonic()
        for endpoint in self.endpoints:
            endpoint.dispatch_policy.turn(now)
        if self._careful or self._suspects.waiting:
            self._send_suspects()
        while self._questions and (answerer := self._most_able()):
            self._ask(answerer, self._questions.popitem(last=False)[0])
        while self._waits() and (link := self._least_busy()) and (requests := self._next_batch(link.computing_rows, now)):
            self._send(link, requests)
        if not (self._links or self._leaving) and (self._ending or self.retiring):
            self._hand_over(Unavailable(f"the last worker of {self.spec.model} has ended; try again"))
        elif not self._links:
            self._pass_on()
        if self._retired is not None and not self._waits():
            self.left.set()
            self.leave(())
            if not any(link.open for link in self._leaving):
                done, self._retired = self._retired, None
                done()

    def _send(self, link: WorkerLink, requests: list[InferenceRequest]) -> None:
        try:
            link.send(requests)
        except Full as exc:
            for request in requests:
                request.fail(exc)
        except Unavailable:  # found out by sending: they go to another, as they are
            if requests[0].crash_count:
                self._suspects.wait(requests[0])
            else:
                self._again.appendleft(requests)

    def _ask(self, link: WorkerLink, question: ParameterCheck) -> None:
        try:
            link.ask(question)
        except Unavailable:  # found out by asking
            self.ask(question)

    def _most_able(self) -> WorkerLink | None:
        """The worker that a question is put to: the one with the least to do of those that need not be left alone."""
        able = [each for each in self._links.values() if each.up and each.batches_max > 1 and len(each.questions) < AT_ONCE_MAX]
        return min(able, key=lambda each: (each.load, len(each.questions)), default=None)

    def _send_suspects(self) -> None:
        """One to each worker that has nothing to compute, and that gets nothing else until it has answered; others are let come to that."""
        self._careful = False
        for link in self._links.values():
            self._suspects.prune()
            if self._suspects.waiting:
                link.batches_max = 1
                if link.is_idle:
                    self._send_alone(link, self._suspects.take())
            elif not link.busy:
                link.batches_max = IN_FLIGHT_MAX
            self._careful = self._careful or link.batches_max == 1

    def _send_alone(self, link: WorkerLink, suspect: InferenceRequest | ParameterCheck) -> None:
        if isinstance(suspect, ParameterCheck):
            self._ask(link, suspect)
        else:
            self._send(link, [suspect])

    def _least_busy(self) -> WorkerLink | None:
        found = None
        for link in self._links.values():
            if link.has_room and (found is None or link.load < found.load):
                found = link
        return found

    def _next_batch(self, computing_rows: int, now_s: float) -> list[InferenceRequest]:
        """Requests to be sent to a worker that has so many rows already; none where nothing waits, or what waits should."""
        while self._again:
            if requests := [request for request in self._again.popleft() if not request.answered]:
                return requests
        for _ in self.endpoints:
            self._turn = (self._turn + 1) % len(self.endpoints)
            endpoint = self.endpoints[self._turn]
            if endpoint.waiting:
                step = endpoint.dispatch_policy.step(endpoint.waiting.rows, computing_rows, now_s)
                if step is DispatchDecision.GO and (batch := endpoint.take(now_s)):
                    return batch
                if step is DispatchDecision.HOLD:
                    self.wake()
        return []

    def _waits(self) -> bool:
        for endpoint in self.endpoints:  # asked for each batch, and a generator takes twice as long
            if endpoint.waiting:
                return True
        return bool(self._again or self._suspects.waiting or self._questions)

    def _hand_over(self, error: PexdockError) -> None:
        """All that waits goes to heirs, as it is; what has none is answered with the error."""
        waiting: list[InferenceRequest | ParameterCheck] = [
            *self._suspects.clear(),
            *self._questions,
            *(request for requests in self._again for request in requests),
        ]
        self._questions.clear()
        self._again.clear()
        for endpoint in self.endpoints:
            waiting += endpoint.waiting.clear()
        for each in waiting:
            if not each.answered:
                heir = None if each.bound or self._ending else self.failover_target(each.endpoint)
                if heir is None:
                    each.fail(error)
                else:
                    heir.inherit(each)

    def _pass_on(self) -> None:
        """What waits while there is no worker goes to heirs, where there are any; suspects go to nobody whom they might kill, too."""
        for endpoint in self.endpoints:
            if endpoint.waiting and (heir := self.failover_target(endpoint)) is not None:
                for request in endpoint.waiting.clear():
                    (endpoint.waiting.add if request.bound else heir.inherit)(request)

    def suspect(self, request: InferenceRequest) -> None:
        """Lets it wait to be sent alone: it may have killed a worker."""
        self._suspects.wait(request)
        self.wake()
