"""A worker's side of one channel: the segments, and the batches that wait for a model, for room, or for the client to take a part."""

from __future__ import annotations

import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import pyarrow as pa

from base.artifacts.cache.cache import Lease, Pending
from base.endpoint.context import Request, RequestContext
from base.errors import DeadlineExceeded, PeerError, PexdockError
from base.ipc import failure, frames
from base.ipc.channel import Channel, ReceivedMessage
from base.ipc.control import WIRE_VERSION
from base.ipc.numeric_frames import NumericBatch
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
    SegmentSlice,
    Started,
    StreamEnd,
    StreamPart,
    Welcome,
    monotonic_deadline_s,
)
from base.ipc.segment import Segment
from base.worker.predictor import BatchContext, PredictionStream, Predictor

log = logging.getLogger(__name__)

_parameters = msgspec.json.Decoder(dict[str, str])
_with_context = msgspec.json.Decoder(tuple[dict[str, str], RequestContext])


class _Work(msgspec.Struct, frozen=True):
    """A batch, and what it says beside its rows."""

    batch: Batch
    call: BatchContext
    until: float


class _Waiting(msgspec.Struct, frozen=True):
    """A batch that waits for its model."""

    work: _Work
    pending: Pending


class _Open(msgspec.Struct, frozen=True):
    """A streamed answer whose last part is on its way to the client."""

    stream: PredictionStream
    lease: Lease | None
    place: SegmentSlice
    held: Callable[[], bool]


class _Result(msgspec.Struct, frozen=True):
    """A result that waits for room."""

    frame: pa.RecordBatch | NumericBatch
    known_schema: bool
    held: Callable[[], bool]


class FrontLink:
    """One front door, as the worker sees it.

    Args:
        wake: makes the worker's loop call `resume`; called from loader threads.

    Attributes:
        is_copy: this process was forked by a handler, which has returned here as well. It must neither write nor send, and ends.
    """

    def __init__(self, channel: Channel, model: str, version: str, predictors: Sequence[Predictor], wake: Callable[[], None]) -> None:
        self._channel = channel
        self._welcome = Welcome(WIRE_VERSION, model, version)
        self._predictors = predictors
        self._wake = wake
        self._greeted = False
        self.is_copy = False
        self._segments: dict[int, Segment] = {}
        self._waiting: list[_Waiting] = []  # bounded by the front door's slots
        self._results: dict[int, _Result] = {}
        self._streams: dict[int, _Open] = {}
        # What came while a handler asked whether it is cancelled. Bounded by what a front door may have in flight.
        self._backlog: deque[ReceivedMessage] = deque()

    @property
    def idle(self) -> bool:
        """Whether nothing that was received is still unanswered."""
        return not (self._waiting or self._results or self._streams or self._backlog)

    def fileno(self) -> int:
        """For selectors."""
        return self._channel.fileno()

    def handle_one(self) -> bool:
        """Takes one message and does what it says; False when there is none.

        Raises:
            PeerError: the front door is gone or broke the rules. The owner closes this connection.
        """
        received = self._backlog.popleft() if self._backlog else self._channel.receive_with_fd_nowait()
        if received is None:
            return False
        self._handle(received.message, received.fd)
        return True

    def resume(self) -> None:
        """Takes what came meanwhile, and computes the batches whose models have come.

        Raises:
            PeerError: as `handle_one`.
        """
        while self._backlog:
            self.handle_one()
        ready = [each for each in self._waiting if each.pending.done]
        self._waiting = [each for each in self._waiting if not each.pending.done]
        for each in ready:
            try:
                lease = each.pending.take_lease()
            except PexdockError as exc:
                self._fail(each.work.batch.batch_id, exc)
            else:
                self._compute(each.work, lease)

    def close(self) -> None:
        """Drops all that waits, and unmaps. Safe to call again."""
        for each in self._waiting:
            each.pending.cancel()
        self._waiting = []
        for received in self._backlog:
            if received.fd is not None:
                os.close(received.fd)
        self._backlog.clear()
        for number in list(self._streams):
            self._end(number)
        self._results.clear()
        for segment in self._segments.values():
            segment.close()
        self._segments.clear()
        self._channel.close()

    def _handle(self, message: Message, fd: int | None) -> None:
        if not self._greeted and not isinstance(message, Hello):
            raise PeerError(f"a front door began with {type(message).__name__}")
        match message:
            case Batch():
                self._batch(message)
            case AttachSegment(number, length):
                self._attach(number, length, fd)
            case DetachSegment(number):
                self._segment(number).close()
                del self._segments[number]
            case NextPart(batch):
                self._advance(batch)
            case CancelBatch(batch):
                self._cancel(batch)
            case ReplyBuffer(batch, reply):
                self._granted(batch, reply)
            case CheckParameters():
                self._check(message)
            case Hello(wire):
                self._greet(wire)
            case _:
                raise PeerError(f"a front door sent {type(message).__name__}")

    def _greet(self, wire: int) -> None:
        self._channel.send_message(self._welcome)
        if wire != WIRE_VERSION:
            older = "front door" if wire < WIRE_VERSION else "worker"
            raise PeerError(f"the front door speaks wire {wire}, this worker {WIRE_VERSION}: the {older} is older")
        self._greeted = True

    def _attach(self, number: int, length: int, fd: int | None) -> None:
        if fd is None or number in self._segments:
            raise PeerError("a segment without a descriptor, or with a number that is taken")
        self._segments[number] = Segment.map_received(fd, length)

    def _segment(self, number: int) -> Segment:
        segment = self._segments.get(number)
        if segment is None:
            raise PeerError(f"there is no segment {number}")
        return segment

    def _batch(self, batch: Batch) -> None:
        until = monotonic_deadline_s(batch.deadline_ms, time.monotonic())
        work = _Work(batch, self._call(batch, until), until)
        if batch.endpoint >= len(self._predictors):
            raise PeerError(f"there is no endpoint {batch.endpoint}")
        try:
            found = self._predictors[batch.endpoint].lookup_model(work.call.parameters, self._wake)
        except PexdockError as exc:
            self._fail(batch.batch_id, exc)
            return
        if isinstance(found, Pending):
            self._waiting.append(_Waiting(work, found))
            self._channel.send_message(ModelLoading(batch.batch_id))
            # The load may have ended before the batch was in the list that `resume` looks at.
            if found.done:
                self._wake()
        else:
            self._compute(work, found)

    def _call(self, batch: Batch, until: float) -> BatchContext:
        alone = bool(batch.flags & Flag.SINGLE_REQUEST)
        try:
            if not batch.flags & Flag.CONTEXT:
                return BatchContext(_parameters.decode(batch.parameters), alone)
            parameters, words = _with_context.decode(batch.parameters)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"parameters that cannot be read: {exc}") from exc
        cancelled = lambda: self._cancelled(batch.batch_id)  # noqa: E731 - a method bound to a batch
        return BatchContext(parameters, alone, Request(words.id, words.headers, words.query, until, cancelled, b"", words.content_type))

    def _check(self, check: CheckParameters) -> None:
        if check.endpoint >= len(self._predictors):
            raise PeerError(f"there is no endpoint {check.endpoint}")
        try:
            parameters = _parameters.decode(check.parameters)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"parameters that cannot be read: {exc}") from exc
        if check.flags & Flag.QUARANTINED:
            self._channel.send_message(Started(check.batch_id))
        try:
            self._predictors[check.endpoint].check_parameters(parameters)
        except PexdockError as exc:
            self._fail(check.batch_id, exc)
        else:
            self._channel.send_message(ParametersAccepted(check.batch_id))

    def _compute(self, work: _Work, lease: Lease | None) -> None:
        """Predicts, or begins to stream. Owns the lease."""
        batch, held = work.batch, _nobody
        predictor = self._predictors[batch.endpoint]
        try:
            self._check_wanted(work)
            if batch.flags & Flag.QUARANTINED:
                self._channel.send_message(Started(batch.batch_id))
            rows, held = self._rows(batch, predictor)
            if predictor.streams:
                self._streams[batch.batch_id] = _Open(predictor.stream(lease, rows, work.call), lease, batch.reply, held)
                lease = None
            else:
                frame = predictor.predict(lease, rows, work.call)
        except PeerError:
            raise
        except PexdockError as exc:
            rows = None
            self._fail(batch.batch_id, exc, held)
            return
        finally:
            if lease is not None:
                lease.release()
        del rows
        if batch.batch_id in self._streams:
            self._advance(batch.batch_id)
        else:
            self._reply(batch.batch_id, batch.reply, _Result(frame, predictor.has_output_schema, held))

    def _rows(self, batch: Batch, predictor: Predictor) -> tuple[pa.RecordBatch | NumericBatch, Callable[[], bool]]:
        """The batch's frame, and what tells whether anybody still refers to its segment."""
        place = self._segment(batch.request.segment).slice_view(batch.request)
        plain = predictor.reader.read_numeric_batch(place, batch.flags, batch.rows)
        if plain is not None:
            return plain, _nobody
        rows, held = predictor.reader.read_frame_watched(place, batch.flags)
        if rows.num_rows != batch.rows:
            raise PeerError(f"a batch said to have {batch.rows} rows has {rows.num_rows}")
        return rows, held

    def _check_wanted(self, work: _Work) -> None:
        if time.monotonic() > work.until:
            raise DeadlineExceeded("the time of the batch was over before it was computed")
        if work.call.context is not None and work.call.context.cancelled():
            raise DeadlineExceeded("nobody waits for the answer any more")

    def _reply(self, batch: int, place: SegmentSlice, result: _Result) -> None:
        if self.is_copy:
            os._exit(0)
        need = frames.frame_size_max(result.frame, known_schema=result.known_schema)
        if need > place.length:
            self._results[batch] = result
            self._channel.send_message(ReplyTooLarge(batch, need))
            return
        written = frames.write_frame(result.frame, self._segment(place.segment).slice_view(place), known_schema=result.known_schema)
        # A result may be a view of the request's own columns: then it holds them too.
        self._channel.send_message(Reply(batch, result.frame.num_rows, written.length, written.flags | _flag(result.held)))

    def _advance(self, number: int) -> None:
        """Sends the next part. The front door asks for it once the client has the one before."""
        opened = self._streams.get(number)
        if opened is None:
            return  # it was cancelled, and the two messages crossed
        try:
            piece = opened.stream.next_part(opened.place.length)
        except PexdockError as exc:
            held = self._end(number)
            self._fail(number, exc, held)
            return
        if self.is_copy:
            os._exit(0)
        if piece is None:
            self._channel.send_message(StreamEnd(number, _flag(self._end(number))))
            return
        self._segment(opened.place.segment).slice_view(opened.place)[: len(piece)] = piece
        self._channel.send_message(StreamPart(number, len(piece)))

    def _end(self, number: int) -> Callable[[], bool]:
        """Closes a stream. Returns what tells whether its frame is still held."""
        opened = self._streams.pop(number)
        opened.stream.close()
        if opened.lease is not None:
            opened.lease.release()
        return opened.held

    def _cancel(self, number: int) -> None:
        """Nobody waits for this batch. What was answered meanwhile is unknown here, and done with."""
        if number in self._streams:
            self._channel.send_message(StreamEnd(number, _flag(self._end(number))))
        for each in [each for each in self._waiting if each.work.batch.batch_id == number]:
            self._waiting.remove(each)
            each.pending.cancel()
            self._fail(number, DeadlineExceeded("nobody waits for the answer any more"))

    def _cancelled(self, number: int) -> bool:
        """Whether the front door has said that nobody waits for this batch; a handler asks in the middle of computing it."""
        try:
            while (received := self._channel.receive_with_fd_nowait()) is not None:
                self._backlog.append(received)
        except PeerError:
            return True  # the loop meets the same error when it reads next
        if self._backlog:
            self._wake()
        return any(each.message == CancelBatch(number) for each in self._backlog)

    def _granted(self, batch: int, place: SegmentSlice) -> None:
        result = self._results.pop(batch, None)
        if result is None:
            raise PeerError("room for a result that does not wait for any")
        if place.length:  # no room at all means that nobody wants the result any more
            self._reply(batch, place, result)

    def _fail(self, batch: int, error: PexdockError, held: Callable[[], bool] | None = None) -> None:
        if self.is_copy:
            os._exit(0)
        body = failure.encode_error(error)
        error.__traceback__ = error.__context__ = None  # they refer to the frames in which the rows are
        self._channel.send_message(Failure(batch, body, _flag(held or _nobody)))


def _flag(held: Callable[[], bool]) -> int:
    return Flag.RETAINED if held() else 0


def _nobody() -> bool:
    return False
