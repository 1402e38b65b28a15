"""Validates the replies of one worker, and passes them to the requests of their batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from functools import partial

import pyarrow as pa

from base.errors import BadResult, Full, NotAcceptable, PeerError, PexdockError
from base.ipc import failure
from base.ipc.numeric_frames import NumericBatch
from base.ipc.protocol import CancelBatch, Flag, Message, NextPart, Reply, ReplyBuffer
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.memory.budget import MemoryBudget
from runtime.front.memory.table_files import TableFile, TableFiles
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.response_stream import FileStream
from runtime.front.requests.streamed_request import StreamedRequest
from runtime.front.workers.in_flight import InFlightBatch, InFlightTable
from runtime.front.workers.reply_lease import LEASE_MIN_BYTES, ReplyLease, lease_reply
from runtime.front.workers.reply_reader import read_reply
from runtime.front.workers.stored_reply import PART_BYTES, StoredReply, make_body
from runtime.front.workers.worker_channel import WorkerChannel
from runtime.http.problems import status_of

_LONG_BYTES = 4 * 1024**2
"""Size from which a reply is read on a thread: each megabyte takes about a millisecond."""

_QUICK_BYTES = 32 * 1024
"""Largest reply that is encoded within about 10 ms; it has at most 600 columns. Larger ones are encoded on a thread, from a copy that the
front door owns."""


class ReplyHandler:
    """Handles the replies to batches of one worker.

    Args:
        in_flight: The work that the worker has.
        channel: The channel to the worker.
        budget: Budget of the channel's slots.
        on_unread: Called with the requests of a batch whose reply was read on a thread and is not valid, and with the error that `on_reply`
            raises otherwise.
    """

    def __init__(
        self,
        in_flight: InFlightTable,
        channel: WorkerChannel,
        budget: MemoryBudget,
        on_unread: Callable[[list[InferenceRequest], PeerError | BadResult], None],
    ) -> None:
        self._on_unread = on_unread
        self._in_flight = in_flight
        self._channel = channel
        self._budget = budget
        self._responding: set[asyncio.Task[None]] = set()  # bounded by the requests that are open

    def on_reply(self, reply: Reply) -> None:
        """Handles the reply to a whole batch.

        Raises:
            PeerError: the reply is not valid. No request was answered.
            BadResult: the result is too large. No request was answered, and the batch is still in flight.
        """
        in_flight = self._in_flight
        batch = in_flight.batches.get(reply.batch_id)
        if batch is None:
            raise PeerError("a reply to a batch that the worker does not have")
        if batch.stored is not None:
            self._on_stored_reply(reply, batch, batch.stored)
            return
        endpoint, place = batch.requests[0].endpoint, batch.reply_slot.reply
        if reply.length > place.length:
            raise PeerError(f"a reply of {reply.length} bytes in a place of {place.length}")
        if endpoint.spec.streams:
            raise PeerError("a whole reply from an endpoint that streams")
        frame = batch.reply_slot.segment.slice_view(place.prefix(reply.length))
        may_lease = reply.length >= LEASE_MIN_BYTES and self._budget.is_ample
        rows = reply.rows if endpoint.spec.whole else batch.rows
        lease = lease_reply(frame, reply, batch.requests, rows) if may_lease else None
        errors = self._read_group_errors(reply, batch) if reply.errors_length else {}
        if lease is not None or reply.length < _LONG_BYTES:
            result, size = read_reply(frame, reply, rows, endpoint) if lease is None else (None, 0)
            del frame  # nothing may refer to the slot once it is given back
            self._take_batch(reply, batch)
            self._answer(reply, batch, result, size, errors, lease)
            return
        self._take_batch(reply, batch)
        self._channel.slots.lease(batch.reply_slot)  # a reply that has come is not lost with its worker
        self._run_in_background(self._read_long_reply(reply, batch, frame, errors))

    def _take_batch(self, reply: Reply, batch: InFlightBatch) -> None:
        self._in_flight.take_batch(reply.batch_id)
        if not batch.parked:
            batch.requests[0].endpoint.batch_time.record(batch.computed_s)

    async def _read_long_reply(self, reply: Reply, batch: InFlightBatch, frame: memoryview, errors: dict[int, PexdockError]) -> None:
        endpoint = batch.requests[0].endpoint
        try:
            result, size = await asyncio.to_thread(read_reply, frame, reply, reply.rows if endpoint.spec.whole else batch.rows, endpoint)
        except (BadResult, PeerError) as exc:
            del frame
            self.free_slots(batch, retained=bool(reply.flags & Flag.RETAINED))
            self._on_unread(batch.requests, exc.copy_for_caller())  # a log may keep the error, whose functions refer to the slot
            return
        del frame
        self._answer(reply, batch, result, size, errors, None)

    def _answer(
        self,
        reply: Reply,
        batch: InFlightBatch,
        result: pa.RecordBatch | NumericBatch | None,
        size: int,
        errors: dict[int, PexdockError],
        lease: ReplyLease | None,
    ) -> None:
        """Responds with a valid reply, and frees its slots."""
        endpoint = batch.requests[0].endpoint
        if endpoint.spec.raw:
            assert isinstance(result, pa.RecordBatch)
            batch.requests[0].succeed_raw(result)
        else:
            encoder, start = ReplyEncoder(result, None if lease is None else lease.view, endpoint.release.response_max_bytes), 0
            if endpoint.spec.whole:
                _describe_whole(encoder, batch.requests[0], reply, errors)
            if size > _QUICK_BYTES:
                self._run_in_background(_respond(encoder, batch.requests))
            else:
                for request in batch.requests:
                    request.succeed(encoder, start)
                    start += request.row_count
            del encoder  # nothing may refer to the slot once it is given back
        del result
        retained = bool(reply.flags & Flag.RETAINED)
        if lease is None:
            self.free_slots(batch, retained=retained)
        elif lease.end(partial(self.free_slots, batch, retained=retained)):
            self._channel.slots.lease(batch.reply_slot)

    def _on_stored_reply(self, reply: Reply, batch: InFlightBatch, stored: StoredReply) -> None:
        """Handles the end of a reply that was sent in parts."""
        (request,) = batch.requests
        if batch.has_unread_part:
            raise PeerError("the end of a reply before its last part was taken")
        if not request.endpoint.spec.whole and reply.rows != batch.rows:
            raise PeerError(f"a reply of {reply.rows} rows to a batch of {batch.rows}")
        file = stored.take_file()
        self._in_flight.take_batch(reply.batch_id)
        if not batch.parked:
            request.endpoint.batch_time.record(batch.computed_s)
        encoder = ReplyEncoder(None)
        if request.endpoint.spec.whole:
            _describe_whole(encoder, request, reply, {})
        self._run_in_background(_respond_stored(encoder, request, file, reply.rows))
        self.free_slots(batch, retained=bool(reply.flags & Flag.RETAINED))

    @staticmethod
    def _read_group_errors(reply: Reply, batch: InFlightBatch) -> dict[int, PexdockError]:
        """Returns the errors of the groups that failed. They are behind the frame."""
        place, (first, *_) = batch.reply_slot.reply, batch.requests
        end = reply.length + reply.errors_length
        if end > place.length or not first.endpoint.spec.group_by:
            raise PeerError(f"a reply with {reply.errors_length} bytes of errors in a place of {place.length}")
        errors = failure.decode_group_errors(bytes(batch.reply_slot.segment.slice_view(place.prefix(end))[reply.length :]))
        if first.group_count and not all(0 <= number < first.group_count for number in errors):
            raise PeerError(f"a reply with errors of more groups than the {first.group_count} of its batch")
        return errors

    def _run_in_background(self, call: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._responding.add(task)
        task.add_done_callback(self._responding.discard)

    def on_part(self, number: int, length: int) -> None:
        """Handles a part of a streamed response, or of a reply that is sent in parts.

        Raises:
            PeerError: the part is not valid.
        """
        batch = self._in_flight.batches.get(number)
        request = None if batch is None else batch.requests[0]
        if batch is None or (batch.stored is None and not isinstance(request, StreamedRequest)):
            raise PeerError("a part of a response that the worker does not stream")
        if length > batch.reply_slot.reply.length:
            raise PeerError(f"a part of {length} bytes in a place of {batch.reply_slot.reply.length}")
        if batch.has_unread_part:
            raise PeerError("a part of a response before the next part was asked for")
        batch.has_unread_part = True
        if batch.stored is not None:
            batch.stored.expect(length)
            self._run_in_background(self._store_part(number, batch, batch.stored, length))
            return
        assert isinstance(request, StreamedRequest)
        if not batch.parked:
            self._in_flight.mark_parked(batch)
        piece = bytes(batch.slot.segment.slice_view(batch.slot.reply.prefix(length)))

        def ask_for_next() -> None:
            batch.has_unread_part = False
            self.send_if_in_flight(number, NextPart(number))

        request.send_part(piece, ask_for_next)

    async def _store_part(self, number: int, batch: InFlightBatch, stored: StoredReply, length: int) -> None:
        """Writes a part to the file, and asks for the next one. If there is no space, the worker drops its reply."""
        try:
            await stored.append(batch.reply_slot.segment.slice_view(batch.reply_slot.reply.prefix(length)))
        except Full:
            self.send_if_in_flight(number, CancelBatch(number))
        else:
            batch.has_unread_part = False
            self.send_if_in_flight(number, NextPart(number))

    def on_end(self, number: int, flags: int) -> None:
        """Handles the end of a streamed response.

        Raises:
            PeerError: the worker does not stream such a response.
        """
        batch = self._in_flight.batches.get(number)
        request = None if batch is None else batch.requests[0]
        if not isinstance(request, StreamedRequest):
            raise PeerError("the end of a response that the worker does not stream")
        self.free_slots(self._in_flight.take_batch(number), retained=bool(flags & Flag.RETAINED))
        request.end_stream()

    def on_reply_too_large(self, number: int, length: int) -> None:
        """Gives the worker a larger reply buffer, or has it send its reply in parts, which go to a file.

        Raises:
            PeerError: the worker does not have such a batch, or has requested a buffer before.
            BadResult: the result is too large. The worker drops it, no request was answered, and the batch is still in flight.
            Full: no shared memory is left. As above.
        """
        batch = self._in_flight.batches.get(number)
        if batch is None or batch.reply_slot is not batch.slot:
            raise PeerError("a request for a reply buffer for a batch that the worker does not have")
        batch.started = False
        try:
            limit = batch.requests[0].endpoint.release.response_max_bytes
            if length > limit:
                raise BadResult(f"the result takes more than {limit} bytes: return less for each row, or raise response_max_bytes")
            files = _reply_files(batch)
            if files is not None and length > files.file_min_bytes:
                batch.reply_slot, batch.stored = self._channel.slots.take_slot(0, PART_BYTES), StoredReply(files, length)
                self._channel.send_message(ReplyBuffer(number, batch.reply_slot.reply.prefix(PART_BYTES), Flag.PARTS))
                return
            if length > self._budget.max_bytes:
                raise BadResult("the result takes more than all shared memory: return less for each row, or raise shared_memory_max_bytes")
            batch.reply_slot = self._channel.slots.take_slot(0, length)
        except (Full, BadResult):
            self._channel.send_message(ReplyBuffer(number, batch.slot.reply.prefix(0)))  # an empty buffer makes the worker drop its reply
            raise
        self._channel.send_message(ReplyBuffer(number, batch.reply_slot.reply))

    def send_if_in_flight(self, number: int, message: Message) -> None:
        """Sends a message about a batch unless the worker has finished the batch."""
        if self._channel.open and number in self._in_flight.batches:
            self._channel.send_message(message)

    def free_slots(self, batch: InFlightBatch, *, retained: bool) -> None:
        """Frees the slots of a finished batch. `retained` is true if the worker still refers to the request's frame."""
        slots = self._channel.slots
        if batch.stored is not None:
            batch.stored.close()
        slots.give_back(batch.slot, retained=retained)
        if batch.reply_slot is not batch.slot:
            slots.give_back(batch.reply_slot, retained=False)
        if batch.table is not None:
            slots.give_back(batch.table, retained=retained)
        if slots.to_forget:
            self._channel.announce_forgotten()


def _reply_files(batch: InFlightBatch) -> TableFiles | None:
    """Returns the files in which the reply to a batch may be kept; None if it must be in memory."""
    first, *others = batch.requests
    if others or not first.endpoint.spec.reply_parts or (first.observer is not None and first.observer.reads_rows):
        return None
    return first.reply_files


def _describe_whole(encoder: ReplyEncoder, request: InferenceRequest, reply: Reply, errors: dict[int, PexdockError]) -> None:
    """Adds to a reply what only those of endpoints that take whole requests have. A request that cannot fail in part fails."""
    encoder.is_record = reply.rows == 1 and bool(reply.flags & Flag.RECORD)
    encoder.group_errors = errors
    request.row_count = reply.rows
    if errors and not request.group_count:
        request.fail(max(errors.values(), key=status_of))


async def _respond_stored(encoder: ReplyEncoder, request: InferenceRequest, file: TableFile, rows: int) -> None:
    """Makes the body of a response of a reply in a file, and responds with it."""
    if not request.needs_body:
        file.close()
        return
    try:
        body = await asyncio.to_thread(make_body, file, request, rows, is_record=encoder.is_record)
    except (BadResult, NotAcceptable, Full) as exc:
        request.fail(exc, blamed=isinstance(exc, BadResult))
    else:
        request.succeed_stored(encoder, FileStream(body))


async def _respond(encoder: ReplyEncoder, requests: Sequence[InferenceRequest]) -> None:
    """Encodes the reply of each request on a thread, and responds with it."""
    start = 0
    for request in requests:
        body = None
        if request.needs_body:
            call = partial(encoder.encode_long_body, request.head.format, request.id, start, request.row_count)
            try:
                body = await asyncio.to_thread(call)
            except (BadResult, NotAcceptable) as exc:
                request.fail(exc, blamed=isinstance(exc, BadResult))
        request.succeed(encoder, start, body)
        start += request.row_count
