"""Divides a large request into parts, which all free workers of its release compute at the same time, and joins their results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pyarrow as pa

from base.errors import AuthorError, BadResult, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.schema.wire import join_results
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse, drop_response

PARTS_PER_CALL = 4
"""Number of parts for each call that can run at the same time, so that workers that finish early have more to do, and other requests take
turns with the parts."""

PARTS_MAX = 256


def part_row_count(rows: int, call_max_rows: int, parallel_calls: int) -> int:
    """Returns the number of rows of each part of a request but the last: as many as whole calls of the handler take.

    Args:
        rows: Rows of the request.
        call_max_rows: Maximum number of rows in one call.
        parallel_calls: Number of calls that the workers of the release can compute at the same time.
    """
    calls = -(-rows // call_max_rows)
    parts = min(calls, PARTS_PER_CALL * parallel_calls, PARTS_MAX)
    return -(-calls // parts) * call_max_rows


class DividedRequest(InferenceRequest):
    """A request whose parts wait for workers in its place. It fails as a whole with the first of its parts that fails."""

    __slots__ = ("_missing", "_parts", "_responding", "_results")

    def __init__(self, head: RequestHead, rows: Rows, request_id: str, respond: Callable[[HttpResponse], None], began_s: float) -> None:
        super().__init__(head, rows, request_id, respond, None, began_s)
        self._parts: list[RequestPart] = []
        self._results: list[pa.RecordBatch | None] = []
        self._missing = 0
        self._responding: asyncio.Task[None] | None = None

    def divide(self, part_rows: int) -> list[RequestPart]:
        """Returns the parts, with `part_rows` rows each, or fewer in the last one."""
        records = self.rows.records.to_record_batch() if isinstance(self.rows.records, NumericBatch) else self.rows.records
        for start in range(0, self.row_count, part_rows):
            rows = records[start : start + part_rows] if isinstance(records, list) else records.slice(start, part_rows)
            self._parts.append(RequestPart(self, len(self._parts), start, Rows(rows, self.rows.shape)))
        self._missing = len(self._parts)
        self._results = [None] * self._missing
        return self._parts

    def cancel(self) -> None:
        """Ends the parts that are not answered yet."""
        for part in self._parts:
            if not part.answered:
                part.abandon()

    def end_part(self, index: int, result: pa.RecordBatch) -> None:
        """Takes the result of a part, and responds once it has all of them."""
        self._results[index] = result
        self._missing -= 1
        if not self._missing:
            self._responding = asyncio.get_running_loop().create_task(self._respond_joined())

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Responds with a problem document, and ends all parts."""
        super().fail(error, blamed=blamed)
        self.cancel()

    async def _respond_joined(self) -> None:
        try:
            joined = await asyncio.to_thread(join_results, [each for each in self._results if each is not None])
            encoder = ReplyEncoder(joined, max_bytes=self.endpoint.release.response_max_bytes)
            body = await asyncio.to_thread(encoder.encode_long_body, self.head.format, self.id, 0, self.row_count)
        except BadResult as exc:
            self.fail(exc, blamed=True)
        else:
            self.succeed(encoder, 0, body)


class RequestPart(InferenceRequest):
    """Some rows of a divided request. Metrics and outcomes count the whole request only.

    Args:
        whole: The request.
        index: Position of the part.
        start: Position of its first row in the request.
        rows: Its rows.
    """

    __slots__ = ("_index", "_start", "_whole")

    def __init__(self, whole: DividedRequest, index: int, start: int, rows: Rows) -> None:
        super().__init__(whole.head, rows, whole.id, drop_response)
        self.group = (whole.group, whole.id)  # parts take turns with other requests, and share no batch with them
        self._whole = whole
        self._index = index
        self._start = start

    @property
    def pinned(self) -> bool:
        """True: all parts are computed by one release, since their results become one answer."""
        return True

    @property
    def needs_body(self) -> bool:
        """False: the whole request encodes its body."""
        return False

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:  # noqa: ARG002
        """Ends the part with its rows in a batch's reply."""
        if not self.answered:
            self._end(200)
            self._whole.end_part(self._index, replies.copy_rows(start, self.row_count))

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Ends the whole request with an error, whose rows are counted from the request's first row."""
        if self.answered:
            return
        self._end(0)
        cells = [cell if cell.row is None else replace(cell, row=cell.row + self._start) for cell in error.cells]
        place = f"rows {self._start} to {self._start + self.row_count - 1}"
        is_call = self.row_count <= (self.endpoint.spec.call_max_rows or 0)
        place = f"in a call with the {place}: " if is_call else f"in a part with the {place}, counted from its first row: "
        place = place if isinstance(error, AuthorError) else ""
        self._whole.fail(error.copy_for_caller(detail=f"{place}{error.detail}", cells=cells), blamed=blamed)

    def _end(self, status: int, *, failed: bool = False) -> None:  # noqa: ARG002 - the whole request is counted
        self.answered, self._respond = True, None
        self.endpoint.deadlines.forget(self)
