"""The worker's side of the channel to one front door."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from base.errors import PeerError, PexdockError
from base.ipc.channel import Channel, ReceivedMessage
from base.ipc.control import WIRE_VERSION
from base.ipc.protocol import (
    AttachSegment,
    Batch,
    CancelBatch,
    CheckParameters,
    DetachSegment,
    Flag,
    Hello,
    Message,
    NextPart,
    ParametersAccepted,
    ReplyBuffer,
    Started,
    Welcome,
)
from base.worker.link.async_calls import AsyncCalls
from base.worker.link.batch_runner import BatchRunner, parameters_decoder
from base.worker.link.reply_sender import ReplySender
from base.worker.link.segment_table import SegmentTable
from base.worker.prediction.predictor import Predictor


class FrontLink:
    """Receives the messages of one front door and acts on them.

    Args:
        channel: The connection; closed with the link.
        welcome: The introduction of this worker.
        predictors: The predictors of all endpoints, in the order of their numbers.
        wake: Makes the worker's loop call `resume`; called from loader threads.
        async_calls: Starts the calls of async handlers.
    """

    def __init__(
        self,
        channel: Channel,
        welcome: Welcome,
        predictors: Sequence[Predictor],
        wake: Callable[[], None],
        async_calls: AsyncCalls,
    ) -> None:
        self._channel = channel
        self._welcome = welcome
        self._predictors = predictors
        self._wake = wake
        self._greeted = False
        self._sender = ReplySender(channel, welcome.release)
        self._segments = SegmentTable()
        self._batches = BatchRunner(self._sender, self._segments, predictors, wake, self._is_cancelled, async_calls)
        # Messages that were received while a handler asked whether its request is cancelled. Bounded by the front door's slots.
        self._backlog: deque[ReceivedMessage] = deque()

    @property
    def idle(self) -> bool:
        """Returns True if everything that was received is answered."""
        return self._batches.idle and not self._backlog

    @property
    def is_forked(self) -> bool:
        """Returns True in a process that a handler has forked; see `ReplySender`."""
        return self._sender.is_forked

    def on_forked(self) -> None:
        """Keeps this copy of the worker from sending and receiving. Called in the child of a fork."""
        self._sender.is_forked = True
        self._channel.close()

    def after_fork(self) -> None:
        """Takes account of a child that this process has forked; see `BatchRunner.after_fork`."""
        self._batches.after_fork()

    def fileno(self) -> int:
        """Returns the descriptor, for selectors."""
        return self._channel.fileno()

    def handle_next_message(self) -> bool:
        """Receives one message and acts on it. Returns False if there is none.

        Raises:
            PeerError: The front door is gone or broke the rules of the wire. The caller must close this link.
        """
        received = self._backlog.popleft() if self._backlog else self._channel.receive_with_fd_nowait()
        if received is None:
            return False
        self._on_message(received.message, received.fd)
        return True

    def resume(self) -> None:
        """Acts on the messages that were received meanwhile, and computes the batches whose models have loaded.

        Raises:
            PeerError: As `handle_next_message`.
        """
        while self._backlog:
            self.handle_next_message()
        self._batches.resume()

    def close(self) -> None:
        """Drops all batches, unmaps the segments and closes the channel. Idempotent."""
        for received in self._backlog:
            if received.fd is not None:
                os.close(received.fd)
        self._backlog.clear()
        self._batches.close()
        self._segments.close()
        self._channel.close()

    def _on_message(self, message: Message, fd: int | None) -> None:
        if not self._greeted and not isinstance(message, Hello):
            raise PeerError(f"the first message of a front door is {type(message).__name__}, not Hello")
        match message:
            case Batch():
                self._batches.start_batch(message)
            case AttachSegment(segment_id, length):
                self._segments.attach(segment_id, length, fd)
            case DetachSegment(segment_id):
                self._segments.detach(segment_id)
            case NextPart(batch_id):
                self._batches.streams.send_next_part(batch_id)
            case CancelBatch(batch_id):
                self._batches.cancel_batch(batch_id)
            case ReplyBuffer(batch_id, reply, flags):
                self._batches.reply_into(batch_id, reply, flags)
            case CheckParameters():
                self._check_parameters(message)
            case Hello(wire):
                self._greet(wire)
            case _:
                raise PeerError(f"a front door sent {type(message).__name__}, which only a worker may send")

    def _greet(self, wire: int) -> None:
        self._channel.send_message(self._welcome)
        if wire != WIRE_VERSION:
            older = "front door" if wire < WIRE_VERSION else "worker"
            raise PeerError(f"the front door has wire version {wire}, this worker {WIRE_VERSION}: the {older} is older")
        self._greeted = True

    def _check_parameters(self, check: CheckParameters) -> None:
        if check.endpoint >= len(self._predictors):
            raise PeerError(f"there is no endpoint {check.endpoint}")
        try:
            parameters = parameters_decoder.decode(check.parameters)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"invalid parameters: {exc}") from exc
        if check.flags & Flag.QUARANTINED:
            self._channel.send_message(Started(check.batch_id))
        predictor = self._predictors[check.endpoint]
        query = predictor.take_query(parameters)
        try:
            predictor.check_parameters(parameters, query)
        except PexdockError as exc:
            self._sender.send_failure(check.batch_id, exc)
        else:
            self._channel.send_message(ParametersAccepted(check.batch_id, self._welcome.release))

    def _is_cancelled(self, batch_id: int) -> bool:
        """Returns True if the front door has cancelled a batch. A handler asks this while it computes that batch."""
        if self.is_forked:
            return False  # only the worker itself hears of it
        try:
            while (received := self._channel.receive_with_fd_nowait()) is not None:
                self._backlog.append(received)
        except PeerError:
            return True  # the loop gets the same error when it receives next
        if self._backlog:
            self._wake()
        return any(each.message == CancelBatch(batch_id) for each in self._backlog)
