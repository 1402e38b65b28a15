"""A request and its copy for a mirror release, until both have ended and their responses are compared."""

from __future__ import annotations

from typing import NamedTuple

import pyarrow as pa

from base.errors import AuthorError, PexdockError, TryLater
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import ReplyObserver, RequestHead
from runtime.front.requests.response import drop_response
from runtime.front.routing.response_diff import ResponseDiff, compare_responses
from runtime.front.telemetry.metrics import now_s
from runtime.front.telemetry.mirror_stats import MirrorStats
from runtime.http.problems import status_of

COPIES_MAX = 128
COPIED_ROWS_MAX = 16_384
"""Limits of the copies in flight for one release. More copies would only wait, with their rows and responses in memory."""

WHOLE_COPY_ROWS = COPIED_ROWS_MAX // 8
"""Number of rows that a copy counts at least if its response may have any number of rows."""


class InFlightCopies:
    """Counts the copies in flight for one release, and their rows."""

    def __init__(self) -> None:
        self._copies = self._rows = 0

    def has_room(self, rows: int) -> bool:
        """Returns whether a further copy with `rows` rows is within the limits. A single copy may have any number of rows."""
        return self._copies < COPIES_MAX and (not self._rows or self._rows + rows <= COPIED_ROWS_MAX)

    def begin(self, rows: int) -> None:
        """Counts a copy."""
        self._copies += 1
        self._rows += rows

    def end(self, rows: int) -> None:
        """Stops counting a copy that has ended."""
        self._copies -= 1
        self._rows -= rows


class RequestEnd(NamedTuple):
    """The end of one of the two requests.

    Attributes:
        status: Status of the response; 0 if there is none to compare.
        values: Copy of the response's rows; None unless the status is 200.
        ms: Milliseconds since the body was complete.
        blamed: Whether the release is to blame for an error.
    """

    status: int
    values: pa.RecordBatch | None
    ms: float
    blamed: bool = False


class MirroredPair:
    """A request and its copy, which may end in any order.

    Args:
        in_flight: Counts the copy until both have ended.
        stats: Records the comparison.
        rows: Rows by which the copy is counted.
        began_s: Time by `now_s` at which its body was complete.
    """

    def __init__(self, in_flight: InFlightCopies, stats: MirrorStats, rows: int, began_s: float) -> None:
        self._in_flight = in_flight
        self._stats = stats
        self._rows = rows
        self._began_s = began_s
        self._original: RequestEnd | None = None
        self._copy: RequestEnd | None = None
        in_flight.begin(rows)

    def success(self, replies: ReplyEncoder, start: int, rows: int) -> RequestEnd:
        """Returns a successful end, with the request's rows of a reply."""
        return RequestEnd(200, replies.copy_rows(start, rows), self._elapsed_ms())

    def failure(self, error: PexdockError, *, blamed: bool) -> RequestEnd:
        """Returns an end with an error. An overload has no status, since it says nothing about the release's responses."""
        status = 0 if isinstance(error, TryLater) else status_of(error)
        return RequestEnd(status, None, self._elapsed_ms(), blamed or isinstance(error, AuthorError))

    def abandonment(self) -> RequestEnd:
        """Returns the end of a request whose client has disconnected."""
        return RequestEnd(0, None, self._elapsed_ms())

    def end_original(self, end: RequestEnd) -> None:
        """Ends the client's request."""
        self._original = end
        self._compare_ended()

    def end_copy(self, end: RequestEnd) -> None:
        """Ends the copy."""
        self._copy = end
        self._compare_ended()

    def _elapsed_ms(self) -> float:
        return (now_s() - self._began_s) * 1000

    def _compare_ended(self) -> None:
        original, copy = self._original, self._copy
        if original is None or copy is None:
            return
        self._in_flight.end(self._rows)
        if copy.blamed and original.status and not original.blamed:
            self._stats.record_failed()
        elif not copy.status and not copy.blamed:
            self._stats.record_skipped()
        elif original.status:
            diff = _compare(original, copy)
            self._stats.record_comparison(equal=diff.equal, deviation=diff.deviation, primary_ms=original.ms, mirror_ms=copy.ms)


def _compare(original: RequestEnd, copy: RequestEnd) -> ResponseDiff:
    if original.values is None or copy.values is None:
        return ResponseDiff(original.status == copy.status, 0.0)
    return compare_responses(original.values, copy.values)


class OriginalObserver(ReplyObserver):
    """Observes how the client's request ends, after the client has the response."""

    __slots__ = ("_pair",)

    def __init__(self, pair: MirroredPair) -> None:
        self._pair = pair

    def on_succeeded(self, replies: ReplyEncoder, start: int, row_count: int) -> None:
        """Ends the original with a response."""
        self._pair.end_original(self._pair.success(replies, start, row_count))

    def on_failed(self, error: PexdockError, *, blamed: bool) -> None:
        """Ends the original with an error."""
        self._pair.end_original(self._pair.failure(error, blamed=blamed))

    def on_abandoned(self) -> None:
        """Ends the original without a response."""
        self._pair.end_original(self._pair.abandonment())


class MirroredRequest(InferenceRequest):
    """The copy of a request. Nobody waits for it, and neither metrics nor outcomes count it."""

    __slots__ = ("_pair",)

    def __init__(self, pair: MirroredPair, head: RequestHead, rows: Rows, request_id: str) -> None:
        super().__init__(head, rows, request_id, drop_response)
        self._pair = pair

    @property
    def pinned(self) -> bool:
        """True: no other release may answer a copy."""
        return True

    @property
    def may_retry(self) -> bool:
        """False: a copy is never computed twice."""
        return False

    @property
    def needs_body(self) -> bool:
        """False: nobody reads its response."""
        return False

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:  # noqa: ARG002
        """Ends it with a response, which is only compared."""
        if not self.answered:
            self._end_copy(self._pair.success(replies, start, self.row_count))

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Ends it with an error."""
        if not self.answered:
            self._end_copy(self._pair.failure(error, blamed=blamed))

    def _end_copy(self, end: RequestEnd) -> None:
        self.answered, self._respond = True, None
        if self.endpoint.release.outcomes is not None:
            self.endpoint.release.outcomes.end_request(self, answered=False)
        self.endpoint.deadlines.forget(self)
        self._pair.end_copy(end)
