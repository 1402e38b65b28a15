"""One request of the front door, from its rows to its response."""

from __future__ import annotations

from collections.abc import Callable, Hashable

import msgspec
import pyarrow as pa

from base.endpoint.context import RequestContext
from base.endpoint.response_rules import InvalidResponse, check_response
from base.errors import AuthorError, BadResult, NotAcceptable, PexdockError
from runtime.front.codecs.encoder import ReplyEncoder
from runtime.front.codecs.rows import Rows
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.deadlines import Timed
from runtime.front.requests.problems import problem_response
from runtime.front.requests.request_head import ReplyObserver, RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.response_stream import FileStream
from runtime.front.requests.target import check_parameter_bytes
from runtime.front.telemetry.metrics import CLIENT_CLOSED_REQUEST

_REPLY_MIN_BYTES = 64 * 1024


class InferenceRequest(Timed):
    """Rows for one endpoint and one set of parameters. It is answered exactly once.

    It has more attributes than other classes, because each of them is read for every request, and a second object would cost time.

    Args:
        head: The request's head.
        rows: The rows of its body.
        request_id: Unique among all requests of all front doors.
        respond: Called with the response, in the event loop's thread.
        context: Context that the handler gets beside the rows. A request with a context is a batch of its own.
        began_s: Time when its body was complete, by the clock of `telemetry.metrics`; 0 without metrics.

    Attributes:
        encoded_parameters: The path's parameters, with the context if there is one, encoded for a worker.
        group: Requests of equal groups may share a batch.
        row_count: Number of its rows; once it is answered by an endpoint that takes whole requests, that of the answer's rows.
        size_bytes: Memory that it takes while it waits, excluding shared memory.
        urgency: 0 goes before 1.
        queued_s: Time since which it has waited for its first batch, by the clock of `began_s`; 0 once it was sent, and without metrics.
        crash_count: Number of workers that exited while they had it.
        observer: Observes how it ends.
        reply_files: The files in which a large reply is kept, if the response can be streamed; else None.

    Raises:
        TooLarge: parameters and context do not fit into a message to a worker.
    """

    __slots__ = (
        "_cancel",
        "_respond",
        "began_s",
        "crash_count",
        "encoded_parameters",
        "endpoint",
        "group",
        "head",
        "id",
        "observer",
        "queued_s",
        "reply_files",
        "row_count",
        "rows",
        "size_bytes",
        "urgency",
    )

    group_count = 0
    """Number of its groups, which may fail one by one; 0 if it fails as a whole."""

    def __init__(
        self,
        head: RequestHead,
        rows: Rows,
        request_id: str,
        respond: Callable[[HttpResponse], None],
        context: RequestContext | None = None,
        began_s: float = 0.0,
    ) -> None:
        target = head.target
        self.timeout_s, self.ends_s, self.answered = head.timeout_s, 0.0, False  # as `Timed.__init__` would, without the call
        self.endpoint = target.endpoint
        self.head = head
        self.rows = rows
        self.row_count = rows.count
        self.id = request_id
        if context is None:
            self.encoded_parameters = target.parameters
            self.group: Hashable = (*target.group, rows.shape) if rows.shape else target.group
        else:
            self.encoded_parameters = b"[" + target.parameters + b"," + msgspec.json.encode(context) + b"]"
            self.group = (target.parameters, rows.shape, request_id)
            check_parameter_bytes(self.encoded_parameters)
        self.urgency, self.size_bytes = head.urgency, 0
        self.began_s = began_s
        self.queued_s = 0.0
        self.crash_count = 0
        self.observer: ReplyObserver | None = None
        self.reply_files: TableFiles | None = None
        self._respond: Callable[[HttpResponse], None] | None = respond
        self._cancel: Callable[[], None] | None = None

    @property
    def arrived_s(self) -> float:
        """Time when `Deadlines` began to watch it, on the monotonic clock."""
        return self.ends_s - self.timeout_s

    @property
    def pinned(self) -> bool:
        """True if no other release may answer it, because its client requested this one."""
        return bool(self.head.version)

    @property
    def may_retry(self) -> bool:
        """True if it may be computed twice."""
        return self.endpoint.spec.retry

    @property
    def counted_as(self) -> InferenceRequest:
        """The request as which outcomes count it."""
        return self

    def suspects(self) -> list[InferenceRequest]:
        """Returns the requests that are sent again, each alone, after a worker has exited while it had this one."""
        return [self]

    def on_sent(self, cancel: Callable[[], None]) -> None:
        """Handles that the request was sent to a worker. `cancel` notifies that worker that nobody waits for it any more."""
        self._cancel = cancel

    @property
    def reply_min_bytes(self) -> int:
        """Least size of the memory for a reply, or for a part of it."""
        return _REPLY_MIN_BYTES

    @property
    def needs_body(self) -> bool:
        """True if `succeed` encodes the reply."""
        return not self.answered

    def succeed(self, replies: ReplyEncoder, start: int, body: bytes | memoryview | None = None) -> None:
        """Responds with the rows of this request in a batch's reply, beginning at `start`, which `body` holds if they are encoded."""
        if self.answered:
            return
        form = self.head.format
        try:
            encoded = replies.encode_body(form, self.id, start, self.row_count) if body is None else body
        except (BadResult, NotAcceptable) as exc:
            self.fail(exc, blamed=isinstance(exc, BadResult))
            return
        self._finish(HttpResponse(200, form.media_type, self.id, encoded))
        if self.observer is not None:
            self.observer.on_succeeded(replies, start, self.row_count)

    def succeed_stored(self, replies: ReplyEncoder, body: FileStream) -> None:
        """Responds with a body in a file, of all rows of a batch's reply."""
        if self.answered:
            return
        length = ((b"content-length", b"%d" % body.size),)
        self._finish(HttpResponse(200, self.head.format.media_type, self.id, b"", length, body))
        if self.observer is not None:
            self.observer.on_succeeded(replies, 0, self.row_count)

    def succeed_raw(self, frame: pa.RecordBatch) -> None:
        """Responds with the result of a raw endpoint's handler (see `base.endpoint.raw`), if HTTP allows it: the worker is not trusted."""
        if self.answered:
            return
        body, content_type, status = (column[0].as_py() for column in frame.columns)
        try:
            check_response(status, content_type, len(body))
        except InvalidResponse as exc:
            self.fail(exc, blamed=True)
        else:
            self._finish(HttpResponse(status, content_type.encode(), self.id, body))

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Responds with a problem document.

        Args:
            error: The error that the document describes.
            blamed: Whether the release caused it. Every error that its author raises counts as caused by the release.
        """
        if self.answered:
            return
        self._finish(problem_response(error, self.id), failed=blamed or isinstance(error, AuthorError))
        if self.observer is not None:
            self.observer.on_failed(error, blamed=blamed)

    def expire(self) -> None:
        """Ends the request because its deadline has passed."""
        self.endpoint.on_expired(self)

    def abandon(self) -> None:
        """Ends the request without a response because its client has disconnected. Notifies the worker that has it."""
        waited = not self.answered
        self._end(CLIENT_CLOSED_REQUEST)
        self.cancel()
        if waited and self.observer is not None:
            self.observer.on_abandoned()
        self.endpoint.on_abandoned(self)

    def cancel(self) -> None:
        """Notifies the worker that has it that nobody waits for it, if the endpoint's handlers can be cancelled."""
        cancel, self._cancel = self._cancel, None
        if cancel is not None:
            cancel()

    def _finish(self, response: HttpResponse, *, failed: bool = False) -> None:
        respond = self._respond
        assert respond is not None
        self._end(response.status, failed=failed)
        respond(response)

    def _end(self, status: int, *, failed: bool = False) -> None:
        endpoint = self.endpoint
        if not self.answered:
            if endpoint.metrics is not None:
                endpoint.metrics.record_response(status, self.began_s)
            if endpoint.release.outcomes is not None:
                endpoint.release.outcomes.end_request(self, answered=status != CLIENT_CLOSED_REQUEST, failed=failed)
        self.answered = True
        self._respond = None
        if self.rows.body_buffer is not None:
            self.rows.body_buffer.close()
        endpoint.deadlines.forget(self)
