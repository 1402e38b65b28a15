"""A request whose response is streamed in parts."""

from __future__ import annotations

from collections.abc import Callable

from base.endpoint.context import RequestContext
from base.errors import AuthorError, PexdockError
from runtime.front.codecs.rows import Rows
from runtime.front.requests.problems import problem_response
from runtime.front.requests.request import InferenceRequest
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.response import HttpResponse
from runtime.front.requests.response_stream import ARROW, EVENTS, ResponseStream, stream_media_type

_TABLE_PART_BYTES = 1024**2
"""Size of the parts of an Arrow stream. Each costs two messages."""


class StreamedRequest(InferenceRequest):
    """A request for an endpoint that streams. It is a batch of its own, and is never copied to a mirror."""

    __slots__ = ("_stream",)

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
        self._stream: ResponseStream | None = None

    @property
    def may_retry(self) -> bool:
        """True if it may be computed twice, so False once a part was sent."""
        return self._stream is None and super().may_retry

    @property
    def media_type(self) -> bytes:
        """Media type of the response."""
        return stream_media_type(self.head.accept, self.endpoint.spec)

    @property
    def reply_min_bytes(self) -> int:
        """Least size of the memory for a part."""
        return _TABLE_PART_BYTES if self.media_type == ARROW else super().reply_min_bytes

    def send_part(self, piece: bytes, on_taken: Callable[[], None]) -> None:
        """Sends one part of the response. Calls `on_taken` once the client has it. The first part decides the status."""
        if self.answered:
            return
        self.endpoint.deadlines.forget(self)  # the time limit applies to each part, without the time that the client takes

        def resume() -> None:
            if not self.answered:
                self.endpoint.deadlines.watch(self)
                on_taken()

        self._started_stream().put(piece, resume)

    def end_stream(self) -> None:
        """Ends the response, which may have no parts."""
        if not self.answered:
            self._started_stream().finish()
            self._end(200)

    def fail(self, error: PexdockError, *, blamed: bool = False) -> None:
        """Responds with a problem document. After the first part it is the last line of the stream, or the stream is cut."""
        if self._stream is None:
            super().fail(error, blamed=blamed)
        elif not self.answered:
            document = problem_response(error, self.id)
            self._stream.finish(bytes(document.body))
            self._end(document.status, failed=blamed or isinstance(error, AuthorError))
            if self.observer is not None:
                self.observer.on_failed(error, blamed=blamed)

    def abandon(self) -> None:
        """Ends the request because its client has disconnected."""
        if self._stream is not None:
            self._stream.finish()
        super().abandon()

    def _started_stream(self) -> ResponseStream:
        if self._stream is None:
            assert self._respond is not None
            media_type = self.media_type
            opaque = bool(self.endpoint.spec.media_type) or media_type == ARROW
            self._stream = ResponseStream(events=not opaque and media_type == EVENTS, opaque=opaque)
            self._respond(HttpResponse(200, media_type, self.id, b"", (), self._stream))
        return self._stream

    def _end(self, status: int, *, failed: bool = False) -> None:
        super()._end(status, failed=failed)
        self.endpoint.release.open_streams.discard(self)
