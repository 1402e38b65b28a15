"""Divides a request into parts, which all free workers of its release compute at the same time, and joins their results.

The parts are rows of a large request, or groups of the rows of a request to an endpoint that groups them.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import pyarrow as pa

from base.endpoint.context import RequestContext
from base.errors import AuthorError, BadResult, PexdockError
from base.ipc.numeric_frames import NumericBatch
from base.jobs.attempt import Progress
from base.schema.values.json_forms import records_of
from base.schema.wire import join_results, most_common_columns, other_columns_error
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.failed_groups import encode_partial_body, group_values
from runtime.front.codecs.rows import GroupedRows, Rows
from runtime.front.requests.problems import log_failed_groups, problem_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse, drop_response
from runtime.http.problems import GroupProblem, group_problem, status_of

PARTS_PER_CALL = 4
"""Number of parts for each call that can run at the same time, so that workers that finish early have more to do, and other requests take
turns with the parts."""

GROUP_PARTS_PER_CALL = 16
"""The same for groups, which may take seconds each. It is also the number of groups in a part from which there are more parts: a part takes
0.8 ms of processor time more than its groups."""

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

    def __init__(
        self,
        head: RequestHead,
        rows: Rows,
        request_id: str,
        respond: Callable[[HttpResponse], None],
        context: RequestContext | None = None,
        began_s: float = 0.0,
    ) -> None:
        super().__init__(head, rows, request_id, respond, context, began_s)
        self._parts: list[RequestPart] = []
        self._results: dict[int, pa.RecordBatch] = {}  # by the position of the part
        self._missing = 0
        self._responding: asyncio.Task[None] | None = None

    def divide(self, parallel_calls: int) -> list[RequestPart]:
        """Returns the parts. The handler can be called `parallel_calls` times at the same time."""
        part_rows = part_row_count(self.row_count, self.endpoint.spec.call_max_rows or 1, parallel_calls)
        records = self.rows.records.to_record_batch() if isinstance(self.rows.records, NumericBatch) else self.rows.records
        for start in range(0, self.row_count, part_rows):
            rows = records[start : start + part_rows] if isinstance(records, list) else records.slice(start, part_rows)
            self._parts.append(RequestPart(self, len(self._parts), start, Rows(rows, self.rows.shape)))
        self._missing = len(self._parts)
        return self._parts

    def cancel(self) -> None:
        """Ends the parts that are not answered yet."""
        for part in self._parts:
            if not part.answered:
                part.abandon()

    def end_part(self, index: int, replies: ReplyEncoder, start: int, rows: int) -> None:
        """Takes the result of a part, and responds once it has all of them."""
        self._results[index] = replies.copy_rows(start, rows)
        self._count_ended(1)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Responds with a problem document, and ends all parts."""
        super().fail(error, blamed=blamed)
        self.cancel()

    def _count_ended(self, count: int) -> None:
        self._missing -= count
        if not self._missing:
            self._responding = asyncio.get_running_loop().create_task(self._respond_joined())

    def _joined(self) -> pa.RecordBatch:
        return join_results([self._results[index] for index in sorted(self._results)])

    async def _respond_joined(self) -> None:
        try:
            joined = await asyncio.to_thread(self._joined)
            encoder = ReplyEncoder(joined, max_bytes=self.endpoint.release.response_max_bytes)
            body = await asyncio.to_thread(encoder.encode_long_body, self.head.format, self.id, 0, joined.num_rows)
        except BadResult as exc:
            self.fail(exc, blamed=True)
        else:
            self.row_count = joined.num_rows
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
        self.encoded_parameters = whole.encoded_parameters
        self.group = (whole.group, whole.id)  # parts take turns with other requests, and share no batch with them
        self._whole = whole
        self._index = index
        self._start = start

    @property
    def pinned(self) -> bool:
        """True: all parts are computed by one release, since their results become one answer."""
        return True

    @property
    def counted_as(self) -> InferenceRequest:
        """The whole request."""
        return self._whole

    @property
    def needs_body(self) -> bool:
        """False: the whole request encodes its body."""
        return False

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:  # noqa: ARG002
        """Ends the part with its rows in a batch's reply."""
        if not self.answered:
            self._end(200)
            self._whole.end_part(self._index, replies, start, self.row_count)

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


class GroupedRequest(DividedRequest):
    """A request whose parts are groups of its rows. A group that fails is reported, and does not end the others.

    If some groups fail, the response has the status 207 and the rows of the others, unless the client prefers strict handling. If all of
    them fail, it is the worst of their errors.

    Attributes:
        has_begun: Whether a worker has got some of its groups.
    """

    __slots__ = ("_blamed", "_errors", "_grouped", "_sizes", "group_count", "has_begun")

    def __init__(
        self,
        head: RequestHead,
        rows: Rows,
        request_id: str,
        respond: Callable[[HttpResponse], None],
        context: RequestContext | None = None,
        began_s: float = 0.0,
    ) -> None:
        super().__init__(head, rows, request_id, respond, context, began_s)
        assert isinstance(rows, GroupedRows)
        self._grouped = rows
        self._errors: dict[int, PexdockError] = {}
        self._sizes: dict[int, int] = {}  # numbers of groups by the number of their first one, as results
        self._blamed = self.has_begun = False
        self.group_count = len(rows.groups.starts) - 1

    def divide(self, parallel_calls: int) -> list[RequestPart]:
        """Returns the parts. They are small, since a part is late, or is computed again if its worker exits, with all of its groups."""
        self._missing = groups = self.group_count
        parts = min(groups, max(GROUP_PARTS_PER_CALL * parallel_calls, groups // GROUP_PARTS_PER_CALL), PARTS_MAX)
        return self.make_parts(0, groups, -(-groups // parts))

    def make_parts(self, first: int, end: int, groups: int) -> list[RequestPart]:
        """Returns parts with `groups` groups each for the groups from `first` to before `end`."""
        made: list[RequestPart] = [GroupPart(self, self._grouped, each, min(each + groups, end)) for each in range(first, end, groups)]
        self._parts += made
        return made

    def end_part(self, index: int, replies: ReplyEncoder, start: int, rows: int) -> None:
        """Takes the result of a part that begins with group `index`, and responds once no group is missing."""
        self._results[index] = replies.copy_rows(start, rows)

    def end_groups(self, first: int, count: int, errors: Mapping[int, PexdockError], *, blamed: bool = False) -> None:
        """Takes the errors of some groups, by their numbers from `first`, and responds once no group is missing."""
        for number, error in errors.items():
            cells = [replace(cell, row=self._row_in_request(first + number, cell.row)) for cell in error.cells]
            self._errors[first + number] = error.copy_for_caller(cells=cells)
        self._sizes[first] = count
        self._blamed = self._blamed or blamed
        self._count_ended(count)
        if self.observer is not None:
            done = self.group_count - self._missing
            self.observer.on_progress(Progress(done / self.group_count, f"{done} of {self.group_count} groups"))

    def _row_in_request(self, group: int, row: int | None) -> int | None:
        """Returns the number in the request of a row of a group; None if the group has no such row, since workers are not trusted."""
        starts, order = self._grouped.groups.starts, self._grouped.groups.order
        if row is None or not 0 <= row < starts[group + 1] - starts[group]:
            return None
        return starts[group] + row if order is None else int(order[starts[group] + row])

    def _fail_odd_groups(self) -> None:
        """Fails the groups whose results have other columns than most."""
        common = most_common_columns((each, self._sizes[first]) for first, each in sorted(self._results.items()))
        for first, each in [*self._results.items()]:
            if (error := other_columns_error(each, common)) is not None:
                del self._results[first]
                for number in range(first, first + self._sizes[first]):
                    self._errors.setdefault(number, error)

    async def _respond_joined(self) -> None:
        if self.endpoint.output_schema is None:
            await asyncio.to_thread(self._fail_odd_groups)
        if self._errors:
            await self._respond_partly()
        else:
            await super()._respond_joined()

    async def _respond_partly(self) -> None:
        """Responds with the groups that failed, and with the rows of the others if there are any and the client does not refuse them."""
        errors = dict(sorted(self._errors.items()))
        worst = max(errors.values(), key=status_of)
        failed_by_release = self._blamed or any(isinstance(each, AuthorError) for each in errors.values())
        form, max_bytes = self.head.format, self.endpoint.release.response_max_bytes

        def encode() -> tuple[list[GroupProblem], bytes | memoryview | None]:
            values = group_values(self._grouped, self.endpoint.spec.group_by, list(errors))
            failed = [group_problem(*each) for each in zip(records_of(values), errors.values(), strict=True)]
            if self.head.hints.strict or len(errors) == self.group_count:
                return failed, None
            return failed, encode_partial_body(self._joined(), values, failed, form, self.id, max_bytes)

        try:
            failed, body = await asyncio.to_thread(encode)
        except BadResult as exc:
            self.fail(exc, blamed=True)
            return
        if self.answered:
            return
        if body is None:
            response = problem_response(_sum_up(worst, failed, self.group_count), self.id, failed)
            if self.head.hints.strict:
                response = response._replace(more=(*response.more, (b"preference-applied", b"handling=strict")))
        else:
            log_failed_groups(worst, self.id, len(failed), self.group_count)
            more = ((b"x-pexdock-failed-groups", b"%d" % len(failed)),)
            response = HttpResponse(207, form.media_type, self.id, body, more)
        respond = self._respond
        assert respond is not None
        self._end(status_of(worst), failed=failed_by_release)  # metrics count the worst of the errors, whether others are answered or not
        respond(response)
        if self.observer is not None:
            self.observer.on_failed(worst, blamed=self._blamed)


def _sum_up(worst: PexdockError, failed: list[GroupProblem], groups: int) -> PexdockError:
    """Returns the error of a request whose groups failed."""
    if groups == 1:
        return worst
    first = next(each for each in failed if each.code == worst.code)
    group = ", ".join(f"{name} {value!r}" for name, value in first.group.items())
    return worst.copy_for_caller(detail=f"{len(failed)} of {groups} groups failed; the group with {group}: {first.detail}")


class GroupPart(RequestPart):
    """Some groups of a request.

    Args:
        whole: The request.
        grouped: The rows of the whole request.
        first: Number of the first group.
        end: Number of the group after the last one.
    """

    __slots__ = ("group_count",)

    _whole: GroupedRequest

    def __init__(self, whole: GroupedRequest, grouped: GroupedRows, first: int, end: int) -> None:
        starts = grouped.groups.starts
        rows = Rows(grouped.columns.slice(starts[first], starts[end] - starts[first]), grouped.shape)
        super().__init__(whole, first, starts[first], rows)
        self.group_count = end - first

    @property
    def arrived_s(self) -> float:
        """Time since which the request has waited for a worker. Groups that wait for others of their request are never late."""
        return math.inf if self._whole.has_begun else super().arrived_s

    def on_sent(self, cancel: Callable[[], None]) -> None:
        """Handles that the part was sent to a worker."""
        super().on_sent(cancel)
        self._whole.has_begun = True

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:
        """Ends the part with the rows of the groups that did not fail."""
        if self.answered:
            return
        if len(replies.group_errors) < self.group_count:
            super().succeed(replies, start, body)
        else:
            self._end(200)
        self._whole.end_groups(self._index, self.group_count, replies.group_errors)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Ends all groups of the part with an error."""
        if not self.answered:
            self._end(0)
            alike = error if self.group_count == 1 else error.copy_for_caller(cells=())
            self._whole.end_groups(self._index, self.group_count, dict.fromkeys(range(self.group_count), alike), blamed=blamed)

    def suspects(self) -> list[InferenceRequest]:
        """Returns a part for each group, since one of them may have crashed the worker. They have the rest of the time."""
        if self.group_count == 1:
            return [self]
        self._end(0)
        made = self._whole.make_parts(self._index, self._index + self.group_count, 1)
        rest_s = max(0.0, self.ends_s - time.monotonic())
        for part in made:
            part.crash_count, part.timeout_s = self.crash_count, rest_s
            part.endpoint.deadlines.watch(part)
        return [*made]
