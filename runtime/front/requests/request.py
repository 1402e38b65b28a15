"""One request on its way through the front door, from its rows to its answer."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

import msgspec
import pyarrow as pa

from base.endpoint.context import RequestContext
from base.errors import AuthorError, PexdockError
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat
from runtime.front.codecs.rows import Rows
from runtime.front.requests import stream
from runtime.front.requests.problems import problem
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.target import RequestHead, _check_size
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST

if TYPE_CHECKING:
    pass


class InferenceRequest:
    """Rows for one endpoint and one set of parameters, and whom to tell. It is answered exactly once.

    Args:
        asked: what its head says.
        answer: called with the answer, in the loop's thread.
        context: what the handler may know of this request beside its rows; it then travels alone.
        began_s: when its body was whole, by the clock of `measuring`; 0 where nobody measures.

    Attributes:
        encoded_parameters: the parameters, with the context if there is one, as a worker reads them.
        crash_count: of workers that had it.
        queued_s: since when it waits for its first batch, by the same clock; 0 where it does not, or nobody measures.
        timeout_s: the time that it has, once `Deadlines` watches it; `ends_s` is then when that is over, by the monotonic clock.
        size_bytes: what it takes while it waits, beside what lies in segments.
        urgency: 0 goes before 1.

    Raises:
        TooLarge: parameters and context do not fit into a message.
    """

    __slots__ = (
        "_answer",
        "_asked",
        "_cancel",
        "_failed",
        "_stream",
        "began_s",
        "crash_count",
        "encoded_parameters",
        "endpoint",
        "ends_s",
        "group",
        "id",
        "queued_s",
        "row_count",
        "rows",
        "size_bytes",
        "timeout_s",
        "urgency",
    )

    def __init__(
        self,
        asked: RequestHead,
        rows: Rows,
        request_id: str,
        answer: Callable[[HttpResponse], None],
        context: RequestContext | None = None,
        began_s: float = 0.0,
    ) -> None:
        target = asked.target
        self.endpoint = target.endpoint
        self.rows = rows
        self.row_count = rows.count
        self.id = request_id
        if context is None:
            self.encoded_parameters = target.parameters
            self.group: Hashable = (target.parameters, rows.shape) if rows.shape else target.group
        else:
            self.encoded_parameters = b"[" + target.parameters + b"," + msgspec.json.encode(context) + b"]"
            self.group = (target.parameters, rows.shape, request_id)
            _check_size(self.encoded_parameters)
        self.began_s = began_s
        self.queued_s = 0.0
        self.timeout_s, self.ends_s = asked.timeout_s, 0.0
        self.urgency, self.size_bytes = asked.urgency, 0
        self._asked = asked
        self._answer: Callable[[HttpResponse], None] | None = answer
        self._stream: stream.ResponseStream | None = None
        self._cancel: Callable[[], None] | None = None
        self._failed = False
        self.crash_count = 0

    @property
    def came_s(self) -> float:
        """When `Deadlines` began to watch it, by the monotonic clock."""
        return self.ends_s - self.timeout_s

    @property
    def answered(self) -> bool:
        """Whether nobody waits any more: answered, timed out, or its client gone."""
        return self._answer is None

    @property
    def form(self) -> ResponseFormat:
        """In which its answer is wanted."""
        return self._asked.form

    @property
    def bound(self) -> bool:
        """Whether no other release may answer it: its client has asked for this one."""
        return bool(self._asked.version)

    @property
    def may_go_again(self) -> bool:
        """Whether it may be computed twice: its author allows it, and nothing of its answer was sent."""
        return self.endpoint.spec.retry and self._stream is None

    @property
    def is_compared(self) -> bool:
        """Whether its rows are looked at when they are there, beside what is answered."""
        return False

    def sent(self, cancel: Callable[[], None]) -> None:
        """A worker has it; `cancel` tells that worker when nobody waits for it any more."""
        self._cancel = cancel

    def succeed(self, replies: ReplyEncoder, start: int) -> None:
        """Answers with this request's rows of a batch's reply."""
        if self._answer is not None:
            form = self._asked.form
            self._finish(self._ok(form.media_type, replies.encode_body(form, self.id, start, self.row_count)))

    def respond(self, frame: pa.RecordBatch) -> None:
        """Answers with what the handler of a raw endpoint made (see `base.endpoint.raw`)."""
        if self._answer is not None:
            body, content_type, status = (column[0].as_py() for column in frame.columns)
            self._finish(self._ok(content_type.encode(), body)._replace(status=status))

    def part(self, piece: bytes, taken: Callable[[], None]) -> None:
        """Passes on one part of a streamed answer; `taken` is called once the client has it. The first part decides the status."""
        if self._answer is None:
            return
        self.endpoint.deadlines.forget(self)  # each part has the time of a request, without that which the client takes

        def go_on() -> None:
            if self._answer is not None:
                self.endpoint.deadlines.watch(self)
                taken()

        self._streamed().put(piece, go_on)

    def end(self) -> None:
        """The streamed answer is whole; it may have had no part at all."""
        if self._answer is not None:
            self._streamed().finish()
            self._over(200)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Answers with a problem document; where the answer has begun, that is its last line.

        Args:
            error: why.
            blamed: the release is to blame, as it always is for the errors of its author.
        """
        if self._answer is None:
            return
        document = problem(error, self.id)
        self._failed = blamed or isinstance(error, AuthorError)
        if self._stream is None:
            self._finish(document)
        else:
            self._stream.finish(bytes(document.body))
            self._over(document.status)

    def abandon(self) -> None:
        """Its client is gone: nothing will be answered, and the worker learns that nobody waits."""
        if self._stream is not None:
            self._stream.finish()
        self._over(CLIENT_CLOSED_REQUEST)
        self.cancel()

    def cancel(self) -> None:
        """Tells the worker that has it that nobody waits, if it is one that would want to know."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def _streamed(self) -> stream.ResponseStream:
        if self._stream is None:
            media_type = stream.wanted(self._asked.accept)
            self._stream = stream.ResponseStream(media_type)
            assert self._answer is not None
            self._answer(self._ok(media_type, b"", self._stream))
        return self._stream

    def _ok(self, media_type: bytes, body: bytes | memoryview, parts: stream.ResponseStream | None = None) -> HttpResponse:
        return HttpResponse(200, media_type, self.id, body, (), parts)

    def _finish(self, answer: HttpResponse) -> None:
        tell = self._answer
        if tell is not None:
            self._over(answer.status)
            tell(answer)

    def _over(self, status: int) -> None:
        endpoint = self.endpoint
        if self._answer is not None:
            if endpoint.metrics is not None:
                endpoint.metrics.record_response(status, self.began_s)
            if endpoint.outcomes is not None and status != CLIENT_CLOSED_REQUEST:
                endpoint.outcomes.record_outcome(failed=self._failed)
        self._answer = None
        if self.rows.body_buffer is not None:
            self.rows.body_buffer.close()
        endpoint.ended(self)
