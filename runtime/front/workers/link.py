"""A front door's side of one channel: the batches that one worker has, and the rooms in which they lie."""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa

from base.errors import Full, PeerError, PeerGone, PexdockError, Unavailable
from base.ipc import failure
from base.ipc.channel import Channel
from base.ipc.control import WIRE_VERSION
from base.ipc.front_door_control import WorkerUnhealthy
from base.ipc.protocol import (
    AttachSegment,
    Batch,
    CancelBatch,
    CheckParameters,
    DetachSegment,
    Failure,
    Flag,
    Hello,
    Message,
    ModelLoading,
    NextPart,
    ParametersAccepted,
    Reply,
    ReplyBuffer,
    ReplyTooLarge,
    Started,
    StreamEnd,
    StreamPart,
    Welcome,
    wire_deadline_ms,
)
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.memory.budget import MemoryBudget
from runtime.front.memory.slots import SLOTS, SlotPool
from runtime.front.workers.batch_writer import write_batch
from runtime.front.workers.in_flight import IN_FLIGHT_MAX, InFlightBatch, hangs, poison_request
from runtime.front.workers.reply_lease import LENT_MIN_BYTES, lend
from runtime.front.workers.reply_reader import read_reply

if TYPE_CHECKING:
    from runtime.front.requests.parameter_question import ParameterCheck
    from runtime.front.requests.request import InferenceRequest
    from runtime.front.scheduling.dispatcher import Dispatcher

log = logging.getLogger(__name__)


class WorkerLink:
    """One connection to one worker of a release, which learns when the worker has room for a batch again, and when the link has closed.

    Attributes:
        up: the worker has said who it is, and may be sent batches.
        worker_pid: of the process that listens there.
        busy, computing_rows: batches that it has to compute (at most `batches_max`), and their rows; a question that must be alone is one.
        questions: that it has, by their numbers.
        untold: requests that it was sent since the supervisor was told of any.
    """

    def __init__(self, path: str, release: Dispatcher, budget: MemoryBudget) -> None:
        self.path = path
        self._release = release
        self._sent: dict[int, InFlightBatch] = {}
        self.up = self.retiring = False
        self.busy = self.computing_rows = self.untold = self._next_batch = 0
        self.batches_max = IN_FLIGHT_MAX
        self._answered_s = 0.0  # the latest
        self.questions: dict[int, ParameterCheck] = {}
        self._welcomed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._budget = budget
        self._rooms = SlotPool(budget)
        budget.reclaimers.add(self._save)
        try:
            self._channel = Channel.connect(path)
        except OSError as exc:
            budget.reclaimers.discard(self._save)
            self._rooms.close()
            raise Unavailable(f"the worker at {path} cannot be reached: {exc}") from exc
        asyncio.get_running_loop().add_reader(self._channel.fileno(), self._readable)
        self.open = True
        self.worker_pid = self._channel.peer_pid()
        try:
            self._channel.send_message(Hello(WIRE_VERSION))
        except PeerError as exc:
            self._give_up(exc)

    @property
    def load(self) -> tuple[int, int]:
        """For comparison with other links: batches to compute, and all that the worker has."""
        return self.busy, len(self._sent)

    @property
    def has_room(self) -> bool:
        """Whether a batch may be sent now."""
        return self.up and self.busy < self.batches_max and len(self._sent) < SLOTS

    @property
    def is_idle(self) -> bool:
        """Whether the worker has nothing to compute, and no question."""
        return self.up and not (self.busy or self.questions)

    def has(self, one: InferenceRequest | ParameterCheck) -> bool:
        """Whether the worker has it, be it answered or not."""
        return one in self.questions.values() or any(one in sent.requests for sent in self._sent.values())

    @property
    def hangs(self) -> bool:
        """Whether the worker hangs, see `sent.hangs`."""
        return self.open and hangs(self._sent.values(), self.questions.values())

    @property
    def silent_s(self) -> float:
        """How long the worker has computed what it has without an answer to any of it."""
        since_s = [each.sent_s for each in self._sent.values()] + [each.sent_s for each in self.questions.values()]
        return time.monotonic() - max(self._answered_s, min(since_s, default=0.0))

    async def wait_welcomed(self) -> bool:
        """Whether the worker is who the routing table says; waits until it has answered."""
        return await self._welcomed

    def send(self, requests: list[InferenceRequest]) -> None:
        """Sends requests of one group as one batch.

        Raises:
            Full: no shared memory is left for it. Nothing was sent; the link stays as it was.
            Unavailable: the worker is gone. Nothing was sent, and the link is closed.
        """
        endpoint = requests[0].endpoint
        room, frame, flags, rows = write_batch(requests, self._rooms)
        number, count = self._number(), len(requests)
        flags |= Flag.SINGLE_REQUEST if count == 1 else 0
        if endpoint.spec.unbatched:
            flags |= Flag.CONTEXT
            requests[0].sent(lambda: self._cancel(number))
        flags |= Flag.QUARANTINED if requests[0].crash_count else 0
        ends_ms = wire_deadline_ms(min([request.ends_s for request in requests]))  # where one is late, the others go again without it
        self._send(Batch(number, endpoint.number, rows, ends_ms, flags, frame, room.reply, requests[0].encoded_parameters))
        if not self.open:
            raise Unavailable("the worker has ended")
        self._sent[number] = InFlightBatch(requests, rows, room, room, time.monotonic())
        self.busy += 1
        self.computing_rows += rows
        self.untold += count
        if self.untold >= self._release.told_requests:
            self._release.tell_worked(self)
        if endpoint.metrics is not None:
            endpoint.metrics.record_batch([request.queued_s for request in requests], rows)
            for request in requests:
                request.queued_s = 0.0

    def ask(self, question: ParameterCheck) -> None:
        """Asks the worker. Raises Unavailable if it is gone: then it was not asked, and the link is closed."""
        number = self._number()
        question.begun = False
        self._send(CheckParameters(number, question.endpoint.number, question.parameters, Flag.QUARANTINED if question.alone else 0))
        if not self.open:
            raise Unavailable("the worker has ended")
        question.sent_s = time.monotonic()
        self.questions[number] = question
        self.busy += question.alone

    def retire(self) -> None:
        """Sends nothing new, and closes once the worker has answered what it has."""
        self.retiring, self.up = True, False
        if not (self._sent or self.questions):
            self.close()

    def close(self, error: PeerError | None = None, *, heard_out: bool = False) -> None:
        """Closes the channel, and sends the batches of the worker again if they may be and it broke no rule. Idempotent.

        If the worker was `heard_out`, the batch that it had started has ended it.
        """
        if not self.open:
            return
        self.open = self.up = False
        asyncio.get_running_loop().remove_reader(self._channel.fileno())
        self._channel.close()
        (sent, self._sent), (questions, self.questions) = (self._sent, {}), (self.questions, {})
        self._budget.reclaimers.discard(self._save)
        self._rooms.close()
        if not self._welcomed.done():
            self._welcomed.set_result(False)
        lost = [request for batch in sent.values() for request in batch.requests]
        culprit = poison_request(sent.values(), questions.values()) if heard_out else None
        self._release.lost([*lost, *questions.values()], died=error is None or isinstance(error, PeerGone), culprit=culprit)

    def _number(self) -> int:
        self._next_batch = (self._next_batch + 1) & 0xFFFFFFFF
        return self._next_batch

    def _send(self, message: Message) -> None:
        """Tells the worker of new and gone segments first. A worker that cannot be told anything is given up."""
        try:
            if self._rooms.forgotten or self._rooms.attached:
                self._send_news(self._rooms)
            self._channel.send_message(message)
        except PeerError as exc:
            self._give_up(exc)

    def _send_news(self, rooms: SlotPool) -> None:
        self._forget()
        for number, segment in rooms.attached:
            self._channel.send_message(AttachSegment(number, segment.size), segment.fd)
        rooms.attached.clear()

    def _forget(self) -> None:
        """Tells the worker which segments are gone: their memory is, once it has unmapped them too."""
        try:
            while self.open and self._rooms.forgotten:
                self._channel.send_message(DetachSegment(self._rooms.forgotten[0]))
                del self._rooms.forgotten[0]
        except PeerError as exc:
            self._give_up(exc)

    def _save(self) -> None:
        self._rooms.drop_spare()
        self._forget()

    def _readable(self) -> None:
        try:
            # Where nothing more can have come the next read would be in vain.
            while (message := self._channel.receive_without_fd_nowait()) is not None:
                self._handle(message)
                if not (self._sent or self.questions) or not self.open:
                    break
        except PeerError as exc:
            self._give_up(exc, heard_out=isinstance(exc, PeerGone))

    def _give_up(self, error: PeerError, *, heard_out: bool = False) -> None:
        log.warning("the channel to %s %s is closed: %s", self._release.spec.model, self._release.spec.version, error)
        self.close(error, heard_out=heard_out)
        self._release.tell(WorkerUnhealthy(self.path, error.detail))

    def _handle(self, message: Message) -> None:
        match message:
            case Reply():
                self._reply(message)
            case ModelLoading(batch):
                self._park(batch)
            case StreamPart(batch, length):
                self._part(batch, length)
            case Started(batch):
                self._begin(batch)
            case ParametersAccepted(batch):
                self._checked(batch, None)
            case Failure(batch, body) if batch in self.questions:
                self._checked(batch, failure.decode_error(body))
            case Failure(batch, body, flags):
                error = failure.decode_error(body)  # before anything changes
                sent = self._take(batch)
                self._free(sent, held=bool(flags & Flag.RETAINED))
                self._release.failed(sent.requests, error)
            case StreamEnd(batch, flags) if self._streams(batch):
                sent = self._take(batch)
                self._free(sent, held=bool(flags & Flag.RETAINED))
                sent.requests[0].end()
            case ReplyTooLarge(batch, length):
                self._grant(batch, length)
            case Welcome():
                self._greet(message)
            case _:
                raise PeerError(f"a worker sent {type(message).__name__}")
        if self.retiring and not (self._sent or self.questions):
            self.close()
        else:
            self._release.freed()

    def _greet(self, welcome: Welcome) -> None:
        words = self._release.spec
        if welcome != Welcome(WIRE_VERSION, words.model, words.version):
            raise PeerError(f"{welcome} answers where {words.model} {words.version} of wire {WIRE_VERSION} should")
        if not self._welcomed.done():
            self._welcomed.set_result(True)
            self.up = not self.retiring

    def _checked(self, number: int, error: PexdockError | None) -> None:
        question = self.questions.pop(number, None)
        if question is None:
            raise PeerError("an answer to what the worker was not asked")
        self.busy -= question.alone
        self._answered_s = time.monotonic()
        question.answer(error)

    def _begin(self, batch: int) -> None:
        sent = self._sent.get(batch) or self.questions.get(batch)
        if sent is None or not sent.is_suspect:
            raise PeerError("a worker began what it was not asked to tell of")
        sent.begun = True

    def _park(self, batch: int) -> None:
        sent = self._sent.get(batch)
        if sent is None or sent.parked:
            raise PeerError("a worker parked a batch that it does not have to compute")
        self._put_aside(sent)

    def _put_aside(self, sent: InFlightBatch) -> None:
        """It takes no place in flight any more."""
        sent.parked = True
        self.busy -= 1
        self.computing_rows -= sent.rows

    def _streams(self, batch: int) -> bool:
        sent = self._sent.get(batch)
        return sent is not None and sent.requests[0].endpoint.spec.streams

    def _part(self, batch: int, length: int) -> None:
        if not self._streams(batch):
            raise PeerError("a part of an answer that the worker does not stream")
        sent = self._sent[batch]
        if length > sent.room.reply.length:
            raise PeerError(f"a part of {length} bytes in a place of {sent.room.reply.length}")
        if not sent.parked:
            self._put_aside(sent)
        piece = bytes(sent.room.segment.slice_view(sent.room.reply.prefix(length)))
        sent.requests[0].part(piece, lambda: self._tell(batch, NextPart(batch)))

    def _cancel(self, batch: int) -> None:
        """Nobody waits any more. The worker still says how the batch ended."""
        self._tell(batch, CancelBatch(batch))

    def _tell(self, batch: int, message: Message) -> None:
        """Something about a batch that the worker still has; it may have ended meanwhile."""
        if self.open and batch in self._sent:
            self._send(message)

    def _reply(self, reply: Reply) -> None:
        sent = self._sent.get(reply.batch_id)
        if sent is None:
            raise PeerError("a reply to a batch that the worker does not have")
        endpoint = sent.requests[0].endpoint
        place = sent.reply_room.reply
        if reply.length > place.length:
            raise PeerError(f"a reply of {reply.length} bytes in a place of {place.length}")
        if endpoint.spec.streams:
            raise PeerError("one reply, where the answer should be streamed")
        frame = sent.reply_room.segment.slice_view(place.prefix(reply.length))
        may_be_lent = reply.length >= LENT_MIN_BYTES and self._budget.plenty
        lent = lend(frame, reply, sent.requests, sent.rows) if may_be_lent else None
        batch = read_reply(frame, reply, sent.rows, endpoint) if lent is None else None
        if not sent.parked:
            endpoint.wait_estimator.answered(time.monotonic() - max(sent.sent_s, self._answered_s))
        self._take(reply.batch_id)
        if endpoint.spec.raw:
            assert isinstance(batch, pa.RecordBatch)
            sent.requests[0].respond(batch)
        else:
            replies, start = ReplyEncoder(batch, None if lent is None else lent.view), 0
            for request in sent.requests:
                request.succeed(replies, start)
                start += request.row_count
            del replies  # nothing may refer to the room once it is given back
        del batch, frame
        held = bool(reply.flags & Flag.RETAINED)
        if lent is None:
            self._free(sent, held=held)
        elif lent.end(partial(self._free, sent, held=held)):
            self._rooms.lend(sent.reply_room)

    def _grant(self, batch: int, length: int) -> None:
        sent = self._sent.get(batch)
        if sent is None or sent.reply_room is not sent.room:
            raise PeerError("a worker wants room for a batch that it does not have")
        sent.begun = False
        try:
            sent.reply_room = self._rooms.take(0, length)
        except Full as exc:
            # A place of no bytes tells the worker to drop its result.
            self._take(batch)
            for request in sent.requests:
                request.fail(exc)
            self._free(sent, held=True)
            self._send(ReplyBuffer(batch, sent.room.reply.prefix(0)))
            return
        self._send(ReplyBuffer(batch, sent.reply_room.reply))

    def _take(self, batch: int) -> InFlightBatch:
        sent = self._sent.pop(batch, None)
        if sent is None:
            raise PeerError("an answer to a batch that the worker does not have")
        if not sent.parked:
            self._put_aside(sent)
        self._answered_s = time.monotonic()
        return sent

    def _free(self, sent: InFlightBatch, *, held: bool) -> None:
        self._rooms.give_back(sent.room, held=held)
        if sent.reply_room is not sent.room:
            self._rooms.give_back(sent.reply_room, held=False)
        if self._rooms.forgotten:
            self._forget()
