"""The link between a front door and one worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import msgspec

from base.errors import BadResult, Full, PeerError, PeerGone, PexdockError, Unavailable
from base.ipc import failure
from base.ipc.control import WIRE_VERSION
from base.ipc.frames import WrittenFrame
from base.ipc.protocol import (
    Batch,
    CancelBatch,
    CheckParameters,
    Failure,
    Flag,
    Message,
    ModelLoading,
    ParametersAccepted,
    ProgressReport,
    Reply,
    ReplyTooLarge,
    Started,
    StreamEnd,
    StreamPart,
    Welcome,
    wire_deadline_ms,
)
from base.ipc.release_spec import release_tag
from base.jobs.attempt import Progress
from runtime.front.requests.endpoint import ServedRelease
from runtime.front.requests.parameter_check import ParameterCheck
from runtime.front.requests.request import InferenceRequest
from runtime.front.workers.batch_writer import write_batch
from runtime.front.workers.events import WorkerEvents, WorkItem
from runtime.front.workers.in_flight import InFlightBatch, InFlightTable
from runtime.front.workers.reply_handler import ReplyHandler
from runtime.front.workers.worker_channel import WorkerChannel

log = logging.getLogger(__name__)

_progress_decoder = msgspec.json.Decoder(Progress)


class WorkerLink:
    """Sends work to one worker and handles its messages.

    Args:
        path: Socket that the worker listens on.
        release: Release that the worker must belong to.
        events: Called when the worker has capacity again, fails, or is lost.

    Attributes:
        up: Whether the worker has introduced itself and takes batches.
        retiring: Whether the link closes once the worker has replied to all its work.
        in_flight: The work that the worker has.

    Raises:
        Unavailable: the worker cannot be reached.
        Full: no shared memory is left for the link.
    """

    def __init__(self, path: str, release: ServedRelease, events: WorkerEvents) -> None:
        self.path = path
        self._release = release
        self._events = events
        self.up = self.retiring = False
        self.in_flight = InFlightTable(events.batches_max)
        self._unreported_requests = 0
        self._writing: set[asyncio.Task[None]] = set()  # bounded by the batches in flight
        self._welcomed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._channel = WorkerChannel(path, release.budget, self._on_message, self._on_broken)
        self._release_tag = 0  # of all answers of the worker, as it has introduced itself
        self._replies = ReplyHandler(self.in_flight, self._channel, release.budget, self._on_unread)
        self.worker_pid = self._channel.worker_pid
        self._channel.send_hello()

    @property
    def open(self) -> bool:
        """True if the channel is open."""
        return self._channel.open

    async def wait_welcomed(self) -> bool:
        """Waits until the worker has introduced itself. Returns whether it is the worker that the routing table names."""
        return await self._welcomed

    def send_batch(self, requests: list[InferenceRequest]) -> None:
        """Sends requests of one group as one batch.

        Raises:
            Full: no shared memory is left for the batch. Nothing was sent, and the link has not changed.
            Unavailable: the worker is gone. Nothing was sent, and the link is closed.
        """
        first = requests[0]
        endpoint = first.endpoint
        assert endpoint.release is self._release
        written = write_batch(requests, self._channel.slots)
        number, count = self.in_flight.next_number, len(requests)
        flags = written.flags | Flag.SINGLE_REQUEST if count == 1 else written.flags
        if endpoint.spec.unbatched:
            flags |= Flag.CONTEXT
        spec = endpoint.spec
        if spec.unbatched or written.rows > spec.batch_max_rows or spec.group_by:  # one request, which can be cancelled between calls
            first.on_sent(lambda: self._replies.send_if_in_flight(number, CancelBatch(number)))
        if first.crash_count:
            flags |= Flag.QUARANTINED
        slot, rows = written.slot, written.rows
        # If one of the requests is late, the others are sent again without it.
        ends_ms = wire_deadline_ms(min([request.ends_s for request in requests]))
        message = Batch(number, endpoint.number, rows, ends_ms, flags, written.frame, slot.reply, first.encoded_parameters)
        if written.write is not None:
            self._send_later(message, written.write)
        else:
            self._channel.send_message(message)
            if not self._channel.open:
                raise Unavailable("the worker has exited")
        self.in_flight.add_batch(number, InFlightBatch(requests, rows, slot, slot, time.monotonic(), written.table))
        self._unreported_requests += count
        if self._unreported_requests >= self._events.report_interval_requests:
            self._events.on_requests_sent(self.path, self._unreported_requests)
            self._unreported_requests = 0
        if endpoint.metrics is not None:
            endpoint.metrics.record_batch([request.queued_s for request in requests], rows)
            for request in requests:
                request.queued_s = 0.0

    def _send_later(self, message: Batch, write: Callable[[], WrittenFrame]) -> None:
        """Sends a batch once a thread has written its rows. It is in flight until then, and lost with the link."""
        task = asyncio.get_running_loop().create_task(self._send_written(message, write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)

    async def _send_written(self, message: Batch, write: Callable[[], WrittenFrame]) -> None:
        written = await asyncio.to_thread(write)
        batch = self.in_flight.batches.get(message.batch_id)
        if batch is None:
            return  # the link was closed meanwhile
        batch.sent_s = time.monotonic()
        request, flags = message.request.prefix(written.length), message.flags | written.flags
        self._channel.send_message(msgspec.structs.replace(message, request=request, flags=flags))
        if not batch.is_wanted:
            self._replies.send_if_in_flight(message.batch_id, CancelBatch(message.batch_id))

    def send_check(self, check: ParameterCheck) -> None:
        """Sends a parameter check.

        Raises:
            Unavailable: the worker is gone. Nothing was sent, and the link is closed.
        """
        assert check.endpoint.release is self._release
        number = self.in_flight.next_number
        check.started = False
        self._channel.send_message(
            CheckParameters(number, check.endpoint.number, check.parameters, Flag.QUARANTINED if check.is_suspect else 0)
        )
        if not self._channel.open:
            raise Unavailable("the worker has exited")
        self.in_flight.add_check(number, check)

    def cancel_unwanted(self) -> list[int]:
        """Notifies the worker of batches whose clients are gone or were answered, since an async handler may still wait for something.

        Returns the numbers of the batches of which it is notified by now, once each.
        """
        numbers = self.in_flight.take_unwanted() if self.open else []
        for number in numbers:
            if not self.in_flight.batches[number].requests[0].endpoint.spec.unbatched:  # those are cancelled when their client is gone
                self._replies.send_if_in_flight(number, CancelBatch(number))
        return numbers

    def retire(self) -> None:
        """Stops sending new work, and closes the link once the worker has replied to all its work."""
        self.retiring, self.up = True, False
        if self.in_flight.is_empty:
            self.close()

    def close(self, error: PeerError | None = None, *, was_drained: bool = False) -> None:
        """Closes the channel, and reports the remaining work of the worker as lost. Idempotent.

        Args:
            error: Reason to close the link; None if it is no longer needed.
            was_drained: Whether all messages of the worker were handled before it exited. Then an item that it had begun and not answered
                caused the exit.
        """
        if not self._channel.open:
            return
        self.up = False
        self._channel.close()
        poison = self.in_flight.poison_item() if was_drained else None
        batches, checks = self.in_flight.take_all()
        for each in batches:
            if each.stored is not None:
                each.stored.close()
        if not self._welcomed.done():
            self._welcomed.set_result(False)
        items: list[WorkItem] = [*(request for batch in batches for request in batch.requests), *checks]
        self._events.on_lost(items, exited=error is None or isinstance(error, PeerGone), poison=poison)

    def _on_broken(self, error: PeerError, was_drained: bool) -> None:
        if self._channel.open:
            log.warning("closing the channel to %s %s: %s", self._release.spec.model, self._release.spec.version, error)
            self.close(error, was_drained=was_drained)
            self._events.on_unhealthy(self.path, error.detail)

    def _on_message(self, message: Message) -> bool:  # noqa: C901, PLR0912 - one flat case a kind
        """Handles a message. Returns whether another message may follow."""
        in_flight = self.in_flight
        match message:
            case Reply():
                if message.release != self._release_tag:
                    raise _wrong_release(message.release)
                self._on_reply(message)
            case ModelLoading(number):
                self._on_parked(number)
            case StreamPart() | StreamEnd() | Failure() | ParametersAccepted() if message.release != self._release_tag:
                raise _wrong_release(message.release)
            case StreamPart(number, length):
                self._replies.on_part(number, length)
            case ProgressReport(number, body):
                self._on_progress(number, body)
            case Started(number):
                in_flight.mark_started(number)
            case ParametersAccepted(number):
                in_flight.take_check(number).finish(None)
            case Failure(number, body) if number in in_flight.checks:
                error = failure.decode_error(body)
                in_flight.take_check(number).finish(error)
            case Failure(number, body, flags):
                self._on_failed(number, failure.decode_error(body), flags)
            case StreamEnd(number, flags):
                self._replies.on_end(number, flags)
            case ReplyTooLarge(number, length):
                self._on_reply_too_large(number, length)
            case Welcome():
                self._on_welcome(message)
            case _:
                raise PeerError(f"unexpected message {type(message).__name__} from a worker")
        more = bool(in_flight.batches or in_flight.checks)
        if self.retiring and not more:
            self.close()
        elif self._events.capacity_wanted:
            self._events.on_capacity()
        return more and self._channel.open

    def _on_welcome(self, welcome: Welcome) -> None:
        spec, tag = self._release.spec, welcome.release
        if self._welcomed.done():
            raise PeerError("a worker that introduces itself twice")
        if welcome != Welcome(WIRE_VERSION, spec.model, spec.version, tag):
            raise PeerError(f"{welcome} from a worker that should be {spec.model} {spec.version} with wire version {WIRE_VERSION}")
        # A worker of 0.1.0 has no tag, and one that was started by hand does not know the id of its release.
        if tag and tag not in {release_tag(spec.model, spec.version, each) for each in (self._release.id, "")}:
            raise PeerError(f"a worker of {spec.model} {spec.version} with other content than the release that it should be of")
        self._release_tag = tag
        self._welcomed.set_result(True)
        self.up = not self.retiring
        self._release.up = self._release.up or self.up

    def _on_progress(self, number: int, body: bytes) -> None:
        batch = self.in_flight.batches.get(number)
        if batch is None:
            raise PeerError("a report of progress for a batch that the worker does not have")
        try:
            progress = _progress_decoder.decode(body)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"an invalid report of progress: {exc}") from exc
        observer = batch.requests[0].observer
        if observer is not None:
            observer.on_progress(progress)

    def _on_parked(self, number: int) -> None:
        batch = self.in_flight.batches.get(number)
        if batch is None or batch.parked:
            raise PeerError("a report that the worker parked a batch that it does not have to compute")
        self.in_flight.mark_parked(batch)

    def _on_reply(self, reply: Reply) -> None:
        try:
            self._replies.on_reply(reply)
        except BadResult as exc:
            self._on_failed(reply.batch_id, exc, reply.flags)

    def _on_unread(self, requests: list[InferenceRequest], error: PeerError | BadResult) -> None:
        if isinstance(error, BadResult):
            self._events.on_batch_failed(requests, error)
            return
        self._on_broken(error, was_drained=False)
        self._events.on_lost(requests, exited=False, poison=None)

    def _on_reply_too_large(self, number: int, length: int) -> None:
        try:
            self._replies.on_reply_too_large(number, length)
        except (BadResult, Full) as exc:
            self._on_failed(number, exc, Flag.RETAINED)

    def _on_failed(self, number: int, error: PexdockError, flags: int) -> None:
        batch = self.in_flight.take_batch(number)
        error = error if batch.stored is None else batch.stored.error or error
        self._replies.free_slots(batch, retained=bool(flags & Flag.RETAINED))
        self._events.on_batch_failed(batch.requests, error)


def _wrong_release(tag: int) -> PeerError:
    return PeerError(f"an answer of another release, with tag {tag:016x}, than the worker has introduced itself with")
