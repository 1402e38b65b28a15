"""One endpoint of a release in a front door: how its rows are read, and those that wait."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from base.errors import DeadlineExceeded, PexdockError
from base.ipc import frames
from base.ipc.control import EndpointWords
from runtime.front.batcher import Batcher
from runtime.front.deadlines import Deadlines
from runtime.front.measuring import Recorder, now_s
from runtime.front.outcomes import Tally
from runtime.front.pace import Pace
from runtime.front.request import Request
from runtime.front.rows import RowDecoder

if TYPE_CHECKING:
    from runtime.front.dispatch import Release


class Endpoint:
    """One endpoint of a release: how to decode its rows, and those that wait."""

    def __init__(
        self, number: int, words: EndpointWords, queue_max_rows: int, release: Release, deadlines: Deadlines, recorder: Recorder | None
    ) -> None:
        self.number = number
        self.words = words
        self.release = release
        self.deadlines = deadlines
        self.input_schema = _schema(words.input_schema)
        self.output_schema = _schema(words.output_schema)
        self.replies = frames.Reader(self.output_schema)
        self.decoder = RowDecoder(self.input_schema, words.unexpected)
        self.streams = words.streams
        self.pace = Pace(1 if words.alone else words.batch_max_rows, words.batch_max_delay_ms / 1000)
        self.waiting: Batcher[Request] = Batcher(words.batch_max_rows, queue_max_rows)
        self.measures = None if recorder is None else recorder.endpoint(release.words.model, release.words.version, words.name)
        self.tally: Tally | None = None  # where the release is watched

    def reads_as(self, other: Endpoint) -> bool:
        """Whether the rows that one of them has read are those that the other would."""
        mine, theirs = self.words, other.words
        return mine.input_schema == theirs.input_schema and mine.unexpected == theirs.unexpected and mine.raw == theirs.raw

    def submit(self, request: Request) -> None:
        """Lets the request wait for a worker of a release that is up. It is answered later, or at once where it cannot wait."""
        try:
            if self.streams:
                self.release.begin(request)
            self.waiting.add(request)
        except PexdockError as exc:
            request.fail(exc)
            return
        if self.measures is not None:
            request.queued_s = now_s()
        self.deadlines.watch(request)
        self.pace.came()
        self.release.wake()

    def expire(self, request: Request) -> None:
        """The request's time is over: it is answered so, and its rows are not sent if they were not yet."""
        waited = self.waiting.remove(request)
        request.fail(DeadlineExceeded(f"not answered within {self.deadlines.timeout_s:g} s"), blamed=not waited)
        request.cancel()
        if not waited:
            self.release.overdue(request)

    def abandon(self, request: Request) -> None:
        """The client is gone: the request leaves the queue; what a worker already has, it computes in vain unless its handler asks."""
        request.abandon()
        self.waiting.remove(request)

    def ended(self, request: Request) -> None:
        """The request is answered, or nobody waits for it; safe to call again."""
        self.deadlines.forget(request)
        if self.streams:
            self.release.streams.discard(request)

    def time_left_ms(self, requests: Sequence[Request]) -> int:
        """The longest time left to any of them: the last has come last, and all have the same."""
        return int(1000 * self.deadlines.left_s(requests[-1]))


def _schema(message: bytes | None) -> pa.Schema | None:
    return None if message is None else pa.ipc.read_schema(pa.py_buffer(message))
