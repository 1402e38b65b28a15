"""A worker's side of one channel: the segments, and the batches that wait for a model or for room."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa

from base.artifacts.cache import Lease, Pending
from base.errors import DeadlineExceeded, PeerError, PexdockError
from base.ipc import failure, frames
from base.ipc.channel import Channel
from base.ipc.control import WIRE_VERSION
from base.ipc.protocol import Attach, Batch, Fail, Flag, Forget, Grant, Hello, Message, Need, Parked, Place, Reply, Welcome
from base.ipc.segment import Segment
from base.predictor import Predictor

log = logging.getLogger(__name__)

_parameters = msgspec.json.Decoder(dict[str, str])


class _Waiting(NamedTuple):
    """A batch that waits for its model."""

    batch: Batch
    pending: Pending
    until: float


class _Result(NamedTuple):
    """A result that waits for room."""

    frame: pa.RecordBatch
    known_schema: bool
    flags: int


class Connection:
    """One front door, as the worker sees it.

    Args:
        wake: makes the worker's loop call `resume`; called from loader threads.
    """

    def __init__(self, channel: Channel, model: str, version: str, predictors: Sequence[Predictor], wake: Callable[[], None]) -> None:
        self._channel = channel
        self._welcome = Welcome(WIRE_VERSION, model, version)
        self._predictors = predictors
        self._wake = wake
        self._greeted = False
        self._segments: dict[int, Segment] = {}
        self._waiting: list[_Waiting] = []  # bounded by the front door's slots
        self._results: dict[int, _Result] = {}

    @property
    def idle(self) -> bool:
        """Whether nothing that was received is still unanswered."""
        return not self._waiting and not self._results

    def fileno(self) -> int:
        """For selectors."""
        return self._channel.fileno()

    def handle_one(self) -> bool:
        """Takes one message and does what it says; False when there is none.

        Raises:
            PeerError: the front door is gone or broke the rules. The owner closes this connection.
        """
        received = self._channel.receive_nowait()
        if received is None:
            return False
        self._handle(received.message, received.fd)
        return True

    def resume(self) -> None:
        """Computes the batches whose models have come."""
        ready = [each for each in self._waiting if each.pending.done]
        self._waiting = [each for each in self._waiting if not each.pending.done]
        for batch, pending, until in ready:
            try:
                lease = pending.lease()
            except PexdockError as exc:
                self._fail(batch.batch, exc)
            else:
                self._compute(batch, lease, until)

    def close(self) -> None:
        """Drops all that waits, and unmaps. Safe to call again."""
        for each in self._waiting:
            each.pending.cancel()
        self._waiting = []
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
            case Attach(number, length):
                self._attach(number, length, fd)
            case Forget(number):
                self._segment(number).close()
                del self._segments[number]
            case Grant(batch, reply):
                self._granted(batch, reply)
            case Hello(wire):
                self._greet(wire)
            case _:
                raise PeerError(f"a front door sent {type(message).__name__}")

    def _greet(self, wire: int) -> None:
        self._channel.send(self._welcome)
        if wire != WIRE_VERSION:
            older = "front door" if wire < WIRE_VERSION else "worker"
            raise PeerError(f"the front door speaks wire {wire}, this worker {WIRE_VERSION}: the {older} is older")
        self._greeted = True

    def _attach(self, number: int, length: int, fd: int | None) -> None:
        if fd is None or number in self._segments:
            raise PeerError("a segment without a descriptor, or with a number that is taken")
        self._segments[number] = Segment.map(fd, length)

    def _segment(self, number: int) -> Segment:
        segment = self._segments.get(number)
        if segment is None:
            raise PeerError(f"there is no segment {number}")
        return segment

    def _batch(self, batch: Batch) -> None:
        until = time.monotonic() + batch.time_left_ms / 1000
        if batch.endpoint >= len(self._predictors):
            raise PeerError(f"there is no endpoint {batch.endpoint}")
        try:
            parameters = _parameters.decode(batch.parameters)
        except msgspec.MsgspecError as exc:
            raise PeerError(f"parameters that cannot be read: {exc}") from exc
        try:
            found = self._predictors[batch.endpoint].lookup(parameters, self._wake)
        except PexdockError as exc:
            self._fail(batch.batch, exc)
            return
        if isinstance(found, Pending):
            self._waiting.append(_Waiting(batch, found, until))
            self._channel.send(Parked(batch.batch))
            # The load may have ended before the batch was in the list that `resume` looks at.
            if found.done:
                self._wake()
        else:
            self._compute(batch, found, until)

    def _compute(self, batch: Batch, lease: Lease | None, until: float) -> None:
        try:
            if time.monotonic() > until:
                raise DeadlineExceeded("the time of the batch was over before it was computed")
            result = self._predict(batch, lease)
        except PeerError:
            raise
        except PexdockError as exc:
            self._fail(batch.batch, exc)
            return
        finally:
            if lease is not None:
                lease.release()
        self._reply(batch.batch, batch.reply, result)

    def _predict(self, batch: Batch, lease: Lease | None) -> _Result:
        predictor = self._predictors[batch.endpoint]
        place = self._segment(batch.request.segment).view(batch.request)
        rows, held = frames.read_watched(place, batch.flags, predictor.input_schema)
        if rows.num_rows != batch.rows:
            raise PeerError(f"a batch said to have {batch.rows} rows has {rows.num_rows}")
        frame = predictor.predict(lease, rows, alone=bool(batch.flags & Flag.ALONE))
        del rows
        # A result may be a view of the request's own columns, which is read until it is written: so it holds them too.
        return _Result(frame, predictor.has_output_schema, Flag.HELD if held() else 0)

    def _reply(self, batch: int, place: Place, result: _Result) -> None:
        need = frames.room_for(result.frame, known_schema=result.known_schema)
        if need > place.length:
            self._results[batch] = result
            self._channel.send(Need(batch, need))
            return
        written = frames.write(result.frame, self._segment(place.segment).view(place), known_schema=result.known_schema)
        self._channel.send(Reply(batch, result.frame.num_rows, written.length, written.flags | result.flags))

    def _granted(self, batch: int, place: Place) -> None:
        result = self._results.pop(batch, None)
        if result is None:
            raise PeerError("room for a result that does not wait for any")
        if place.length:  # no room at all means that nobody wants the result any more
            self._reply(batch, place, result)

    def _fail(self, batch: int, error: PexdockError) -> None:
        self._channel.send(Fail(batch, failure.encode(error)))
