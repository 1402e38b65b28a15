"""Computes the batches of one front door: each one at once, when its model has loaded, or part by part."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from base.artifacts.cache.cache import Lease, Pending
from base.endpoint.context import Request, RequestContext
from base.errors import DeadlineExceeded, PeerError, PexdockError
from base.forks import exit_forked_child
from base.ipc import frames
from base.ipc.numeric_frames import NumericBatch
from base.ipc.protocol import Batch, Flag, ModelLoading, Reply, ReplyTooLarge, SegmentSlice, Started, monotonic_deadline_s
from base.jobs.attempt import JobAttempt
from base.worker.link.async_calls import AsyncCall, AsyncCalls, OpenCall
from base.worker.link.reply_sender import ReplySender, never_retained, retained_flag, unpack_answer
from base.worker.link.segment_table import SegmentTable
from base.worker.link.stream_replies import StreamReplies
from base.worker.prediction.handler_call import BatchContext
from base.worker.prediction.predictor import Answer, Predictor
from base.worker.prediction.stream_parts import PartEncoder, PartIterator

parameters_decoder: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, str | list[str]])
_parameters_and_context: msgspec.json.Decoder[tuple[dict[str, Any], RequestContext]] = msgspec.json.Decoder(
    tuple[dict[str, str | list[str]], RequestContext]
)
_NO_QUERY: Mapping[str, str | list[str]] = {}


class _Work(msgspec.Struct, frozen=True):
    """A batch with its context and its deadline on the monotonic clock, in seconds."""

    batch: Batch
    context: BatchContext
    deadline_s: float


class _PendingWork(msgspec.Struct, frozen=True):
    """A batch that waits for its model."""

    work: _Work
    pending: Pending


class _Output(msgspec.Struct, frozen=True):
    """A result on its way into the reply slice, or waiting for a larger one."""

    frame: Answer
    known_schema: bool
    is_retained: Callable[[], bool]


class BatchRunner:
    """Computes batches and sends their outcomes.

    Args:
        sender: The way back to the front door.
        segments: The segments of the front door.
        predictors: The predictors of all endpoints, in the order of their numbers.
        wake: Makes the worker's loop call `resume`; called from loader threads.
        is_cancelled: Tells whether the front door has cancelled a batch, given its id.
        async_calls: Starts the calls of async handlers.
    """

    def __init__(
        self,
        sender: ReplySender,
        segments: SegmentTable,
        predictors: Sequence[Predictor],
        wake: Callable[[], None],
        is_cancelled: Callable[[int], bool],
        async_calls: AsyncCalls,
    ) -> None:
        self._sender = sender
        self._channel = sender.channel
        self._segments = segments
        self._predictors = predictors
        self._wake = wake
        self._is_cancelled = is_cancelled
        self._pending: list[_PendingWork] = []  # bounded by the front door's slots
        self._outputs: dict[int, _Output] = {}  # as above
        self._async_calls = async_calls
        self._calls: dict[int, OpenCall] = {}  # of async handlers, until they are answered; as above
        self._broken: PeerError | None = None
        self._forks = 0
        self.streams = StreamReplies(sender, segments, async_calls.runner, self._on_broken, wake)

    @property
    def idle(self) -> bool:
        """Returns True if every batch is answered, apart from calls that were cancelled."""
        calls = any(not each.is_abandoned for each in self._calls.values())
        return not (self._pending or self._outputs or calls or self.streams)

    def start_batch(self, batch: Batch) -> None:
        """Computes a batch, or leaves it pending if its model must be loaded first.

        Raises:
            PeerError: The front door is gone, or the batch breaks the rules of the wire.
        """
        if batch.endpoint >= len(self._predictors):
            raise PeerError(f"there is no endpoint {batch.endpoint}")
        deadline_s = monotonic_deadline_s(batch.deadline_ms, time.monotonic())
        work = _Work(batch, self._batch_context(batch, deadline_s), deadline_s)
        try:
            found = self._predictors[batch.endpoint].lookup_model(work.context.parameters, self._wake)
        except PexdockError as exc:
            self._sender.send_failure(batch.batch_id, exc)
            return
        if isinstance(found, Pending):
            self._pending.append(_PendingWork(work, found))
            self._channel.send_message(ModelLoading(batch.batch_id))
            # The load may have finished before the batch was in the list that `resume` looks at.
            if found.done:
                self._wake()
        else:
            self._compute(work, found)

    def resume(self) -> None:
        """Computes the batches whose models have loaded.

        Raises:
            PeerError: As `start_batch`.
        """
        if self._broken is not None:
            raise self._broken
        ready = [each for each in self._pending if each.pending.done]
        self._pending = [each for each in self._pending if not each.pending.done]
        for each in ready:
            try:
                lease = each.pending.take_lease()
            except PexdockError as exc:
                self._sender.send_failure(each.work.batch.batch_id, exc)
            else:
                self._compute(each.work, lease, parked=True)

    def reply_into(self, batch_id: int, place: SegmentSlice, flags: int) -> None:
        """Writes a result that was too large into the larger slice that the front door has sent for it, or part by part into another one.

        Raises:
            PeerError: No result waits for a slice, or as `start_batch`.
        """
        output = self._outputs.pop(batch_id, None)
        if output is None:
            raise PeerError(f"a reply buffer for batch {batch_id}, which does not wait for one")
        if flags & Flag.PARTS:
            self._reply_in_parts(batch_id, place, output)
        elif place.length:  # an empty slice means that nobody wants the result any more
            self._reply(batch_id, place, output)

    def cancel_batch(self, batch_id: int) -> None:
        """Stops a stream or a call, or drops a batch that waits for its model. A batch that was answered meanwhile is unknown here."""
        if batch_id in self.streams:
            self._calls.pop(batch_id, None)
            self.streams.cancel(batch_id)
        else:
            self._abandon_call(batch_id, "nobody waits for the answer any more")
        for each in [each for each in self._pending if each.work.batch.batch_id == batch_id]:
            self._pending.remove(each)
            each.pending.cancel()
            self._sender.send_failure(batch_id, DeadlineExceeded("nobody waits for the answer any more"))

    def after_fork(self) -> None:
        """Takes account of a child that this process has forked: it may read the rows of the open batches for longer than this process."""
        self._forks += 1

    def close(self) -> None:
        """Drops all batches. Idempotent."""
        for each in self._pending:
            each.pending.cancel()
        self._pending = []
        calls, self._calls = self._calls, {}
        for opened in calls.values():
            if not opened.is_abandoned and not self._async_calls.cancel(opened.call):
                opened.close()
        self.streams.close()
        self._outputs.clear()

    def _batch_context(self, batch: Batch, deadline_s: float) -> BatchContext:
        single_request = bool(batch.flags & Flag.SINGLE_REQUEST)
        predictor, sent = self._predictors[batch.endpoint], None
        try:
            if batch.flags & Flag.CONTEXT:
                parameters, sent = _parameters_and_context.decode(batch.parameters)
            else:
                parameters = parameters_decoder.decode(batch.parameters)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"invalid parameters: {exc}") from exc
        query = predictor.take_query(parameters) if predictor.takes_query else _NO_QUERY
        if sent is None:
            require_wanted = lambda: self._require_wanted_rest(batch, deadline_s)  # noqa: E731 - bound to a batch
            return BatchContext(parameters, single_request, require_wanted=require_wanted, query=query)
        is_cancelled = lambda: self._is_cancelled(batch.batch_id)  # noqa: E731 - a method bound to a batch
        report = lambda progress: self._sender.report_progress(batch.batch_id, progress)  # noqa: E731 - a method bound to a batch
        job = None if sent.job is None else JobAttempt(Path(sent.job.folder), sent.job.attempt, report)
        request = Request(sent.id, sent.headers, sent.query, deadline_s, is_cancelled, job, b"", sent.content_type)
        return BatchContext(parameters, single_request, request, query=query, arrow=sent.arrow)

    def _compute(self, work: _Work, lease: Lease | None, *, parked: bool = False) -> None:
        """Predicts, or starts a stream. Owns the lease.

        Args:
            work: The batch.
            lease: Its model.
            parked: The front door knows that the batch waits for something.
        """
        if self._predictors[work.batch.endpoint].is_async:
            self._begin_call(work, lease, parked=parked)
            return
        batch, is_retained, stream, stream_lease = work.batch, never_retained, None, None
        predictor = self._predictors[batch.endpoint]
        try:
            self._require_wanted(work)
            if batch.flags & Flag.QUARANTINED:
                self._channel.send_message(Started(batch.batch_id))
            rows, is_retained = self._read_rows(batch, predictor)
            if predictor.streams:
                stream = predictor.stream(lease, rows, work.context)
                stream_lease, lease = lease, None
            else:
                frame = predictor.predict(lease, rows, work.context)
        except PeerError:
            raise
        except PexdockError as exc:
            rows = None
            self._sender.send_failure(batch.batch_id, exc, is_retained)
            return
        finally:
            if lease is not None:
                lease.release()
        del rows
        if stream is not None:
            self.streams.start(batch.batch_id, stream, stream_lease, batch.reply, is_retained)
        else:
            self._reply(batch.batch_id, batch.reply, _Output(frame, predictor.has_output_schema, is_retained))

    def _begin_call(self, work: _Work, lease: Lease | None, *, parked: bool) -> None:
        """Begins to compute a batch by an async handler. Owns the lease."""
        batch, endpoint = work.batch, self._predictors[work.batch.endpoint].endpoint
        opened = OpenCall(
            AsyncCall(
                batch.endpoint,
                endpoint.max_concurrency,
                lambda: self._call(work, opened),
                lambda: None if parked else self._report_suspended(batch.batch_id),
                is_exclusive=bool(batch.flags & Flag.QUARANTINED),
            ),
            lease,
        )
        self._calls[batch.batch_id] = opened
        # The front door cancels a stream that is late, and a batch of several requests once nobody waits for any of them.
        if work.context.single_request and not self._predictors[batch.endpoint].streams:
            late = "the deadline of the batch passed while it was computed"
            wait_s = min(max(0.0, work.deadline_s - time.monotonic()), threading.TIMEOUT_MAX)
            opened.timer = self._async_calls.runner.loop.call_later(wait_s, self._abandon_call, batch.batch_id, late)
        self._async_calls.submit(opened.call)

    async def _call(self, work: _Work, opened: OpenCall) -> None:
        """Computes one batch by an async handler, and sends its outcome unless nobody waits for it any more."""
        batch, predictor = work.batch, self._predictors[work.batch.endpoint]
        outcome: _Output | PexdockError
        rows: pa.RecordBatch | NumericBatch | pa.Table | None = None
        try:
            self._require_wanted(work)
            if batch.flags & Flag.QUARANTINED:
                self._channel.send_message(Started(batch.batch_id))
            rows, opened.is_retained = self._read_rows(batch, predictor)
            if predictor.streams:
                stream, lease = predictor.stream(opened.lease, rows, work.context), opened.lease
                rows = opened.lease = None
                await self.streams.start_async(batch.batch_id, stream, lease, batch.reply, opened.is_retained)
                self._calls.pop(batch.batch_id, None)
                return
            frame = await predictor.predict_async(opened.lease, rows, work.context)
            outcome = _Output(frame, predictor.has_output_schema, opened.is_retained)
        except PeerError as exc:
            self._on_broken(exc)
            return
        except PexdockError as exc:
            outcome = exc
        finally:
            rows = None
            opened.close()
        if opened.is_abandoned or self._calls.pop(batch.batch_id, None) is None:
            return  # nobody waited for it any more
        try:
            if isinstance(outcome, PexdockError):
                self._sender.send_failure(batch.batch_id, outcome, opened.is_retained)
            else:
                self._reply(batch.batch_id, batch.reply, outcome)
        except PeerError as exc:
            self._on_broken(exc)
        self._wake()  # the worker may be waiting for this call before it exits

    def _report_suspended(self, batch_id: int) -> None:
        """Tells the front door that the batch waits for something, so that it sends others."""
        if batch_id not in self._calls:
            return
        try:
            self._channel.send_message(ModelLoading(batch_id))
        except PeerError as exc:
            self._on_broken(exc)

    def _abandon_call(self, batch_id: int, reason: str) -> None:
        """Cancels the call of an async handler, and answers once it has ended. The front door replaces the worker if it does not end."""
        opened = self._calls.get(batch_id)
        if opened is None or opened.is_abandoned:
            return
        opened.is_abandoned = True

        def answer(_: object = None) -> None:
            opened.close()
            if self._calls.pop(batch_id, None) is None:
                return  # the link is closed
            try:
                self._sender.send_failure(batch_id, DeadlineExceeded(reason), opened.is_retained)
            except PeerError as exc:
                self._on_broken(exc)
            self._wake()

        if self._async_calls.cancel(opened.call) and opened.call.task is not None:
            opened.call.task.add_done_callback(answer)
            self._wake()  # the worker may be waiting for this call before it exits
        else:
            answer()

    def _on_broken(self, error: PeerError) -> None:
        """Notes an error that came up outside of the loop's turn for this front door, whose link must be closed."""
        self._broken = error
        self._wake()

    def _read_rows(self, batch: Batch, predictor: Predictor) -> tuple[pa.RecordBatch | NumericBatch | pa.Table, Callable[[], bool]]:
        """Returns the rows of a batch, and the function that tells whether anything still refers to their segment."""
        memory = self._segments.slice_view(batch.request)
        rows: pa.RecordBatch | pa.Table
        if batch.flags & Flag.TABLE:
            rows, is_retained = frames.read_table_watched(memory, predictor.frame_reader.schema)
        else:
            numeric = predictor.frame_reader.read_numeric_batch(memory, batch.flags, batch.rows)
            if numeric is not None:
                return numeric, never_retained
            rows, is_retained = predictor.frame_reader.read_frame_watched(memory, batch.flags)
        if rows.num_rows != batch.rows:
            raise PeerError(f"a batch of {batch.rows} rows has a frame of {rows.num_rows}")
        forks = self._forks
        return rows, lambda: self._forks > forks or is_retained()

    def _require_wanted_rest(self, batch: Batch, deadline_s: float) -> None:
        """Raises DeadlineExceeded if nobody waits for the rest of a large request any more."""
        _require_in_time(deadline_s)
        if self._is_cancelled(batch.batch_id):
            raise DeadlineExceeded("nobody waits for the answer any more")

    def _require_wanted(self, work: _Work) -> None:
        _require_in_time(work.deadline_s)
        if work.context.context is not None and work.context.context.cancelled():
            raise DeadlineExceeded("nobody waits for the answer any more")

    def _reply_in_parts(self, batch_id: int, place: SegmentSlice, output: _Output) -> None:
        frame, flags = output.frame, int(Flag.SCHEMA)
        if isinstance(frame, tuple):
            frame, more, _ = unpack_answer(frame)
            flags |= more
        reply = Reply(batch_id, frame.num_rows, 0, flags, self._sender.release)
        parts = PartIterator(frames.frame_pieces(frame), PartEncoder(lambda piece: piece), self._async_calls.runner)
        self.streams.start(batch_id, parts, None, place, output.is_retained, reply)

    def _reply(self, batch_id: int, place: SegmentSlice, output: _Output) -> None:
        if self._sender.is_forked:
            exit_forked_child()
        frame, flags, errors, errors_length = output.frame, 0, b"", 0
        if isinstance(frame, tuple):
            frame, flags, errors = unpack_answer(frame)
            errors_length = len(errors)
        size_max = frames.frame_size_max(frame, known_schema=output.known_schema) + errors_length
        if size_max > place.length:
            self._outputs[batch_id] = output
            self._channel.send_message(ReplyTooLarge(batch_id, size_max))
            return
        memory = self._segments.slice_view(place)
        written = frames.write_frame(frame, memory, known_schema=output.known_schema)
        if errors:
            memory[written.length : written.length + errors_length] = errors
        # A result may be a view of the request's own columns, and then it keeps their memory in use, too.
        flags |= written.flags | retained_flag(output.is_retained)
        self._channel.send_message(Reply(batch_id, frame.num_rows, written.length, flags, self._sender.release, errors_length))


def _require_in_time(deadline_s: float) -> None:
    if time.monotonic() > deadline_s:
        raise DeadlineExceeded("the deadline of the batch passed before it was computed")
