"""The head of a request for an endpoint, with the choice of a release and the mirroring that a traffic split adds."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import NamedTuple, Self

from base.endpoint.raw import request_frame
from base.errors import PexdockError
from base.jobs.attempt import Progress
from runtime.front.codecs import media_types
from runtime.front.codecs.decoder import body_reader, is_quick
from runtime.front.codecs.encoder import ReplyEncoder, ResponseFormat
from runtime.front.codecs.rows import Rows
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.memory.table_body import TableBody
from runtime.front.requests.hints import DEFAULT_URGENCY, NO_HINTS, RequestHints
from runtime.front.requests.target import Target


class RequestHead:
    """The parsed head of a request for an endpoint. Requests with equal heads share one.

    Attributes:
        version: Version or label that the client requests; empty if it requests none.
        selector: Chooses the release that answers; None if the target is final.
        mirror: Decides whether the request is copied; None if requests are not mirrored.
        timeout_s: Time limit of its requests in seconds.
        urgency: Urgency of its requests; 0 goes before 1.
        decode: Decodes a body of its media type.
        quick_bytes: Size up to which every body is decoded in the event loop.
        may_be_slow: Whether decoding a body may take longer than the event loop may wait; `is_quick` decides.
    """

    __slots__ = (
        "accept",
        "content_type",
        "decode",
        "format",
        "hints",
        "may_be_slow",
        "mirror",
        "quick_bytes",
        "selector",
        "target",
        "timeout_s",
        "urgency",
        "version",
    )

    def __init__(self, target: Target, content_type: str, accept: str, version: str = "") -> None:
        endpoint = target.endpoint
        decoder = endpoint.decoder
        self.target = target
        self.version = version
        self.selector: Selector | None = None
        self.mirror: Mirror | None = None
        self.apply_hints(NO_HINTS)
        self.content_type = content_type
        self.accept = accept
        self.format = ResponseFormat.negotiate(accept)
        self.decode: Callable[[bytes], Rows] = (
            _decode_raw if endpoint.spec.raw else decoder.body_readers.get(content_type) or body_reader(decoder, content_type)
        )
        self.quick_bytes = sys.maxsize if endpoint.spec.raw else decoder.quick_bytes.get(content_type, 0)
        self.may_be_slow = True

    def apply_hints(self, hints: RequestHints) -> None:
        """Sets the time limit and urgency that the client requests, within the limits of operator and author."""
        endpoint = self.target.endpoint
        self.hints = hints
        timeout_ms = endpoint.spec.timeout_ms if hints.timeout_ms is None else hints.timeout_ms
        max_s = endpoint.deadlines.timeout_s
        self.timeout_s = max_s if timeout_ms is None else min(timeout_ms / 1000, max_s)
        self.urgency = hints.urgency if endpoint.priorities else DEFAULT_URGENCY

    def with_less_time(self, spent_s: float) -> Self:
        """Returns a copy whose time limit is reduced by `spent_s`."""
        head = copy.copy(self)
        head.timeout_s -= spent_s
        return head

    @property
    def is_arrow(self) -> bool:
        """True if the body is an Arrow stream that the front door decodes."""
        return not self.target.endpoint.spec.raw and media_types.media_type_of(self.content_type) == media_types.ARROW

    @property
    def is_table(self) -> bool:
        """True if the body is an Arrow stream or a Parquet file that the front door decodes, whose workers can map it."""
        spec = self.target.endpoint.spec
        return spec.tables and not spec.raw and media_types.media_type_of(self.content_type) in (media_types.ARROW, media_types.PARQUET)

    def is_quick(self, body: bytes) -> bool:
        """Returns whether a body is decoded so fast that the event loop may do it."""
        endpoint = self.target.endpoint
        return endpoint.spec.raw or is_quick(endpoint.decoder, self.content_type, body)

    def decode_body(self, body: bytes | BodyBuffer) -> Rows:
        """Returns the rows of a body. If the body is in a body buffer, the rows own the buffer.

        Raises:
            PexdockError: the body cannot be decoded, or its rows do not fit the schema.
        """
        decoder = self.target.endpoint.decoder
        if isinstance(body, TableBody):
            return decoder.from_table_body(body, is_parquet=not self.is_arrow)
        return decoder.from_body_buffer(body) if isinstance(body, BodyBuffer) else self.decode(body)


class Selection(NamedTuple):
    """The release that was chosen for a request, as a head that leads to it.

    Attributes:
        rows: Rows of the body, if the choice required decoding it and the chosen endpoint decodes it in the same way; else None.
    """

    head: RequestHead
    rows: Rows | None


class Selector:
    """Chooses the release for requests with one head. This is a base class."""

    __slots__ = ()

    def read_body(self, body: bytes | BodyBuffer) -> Rows | None:
        """Returns the rows of a body if the choice depends on them, else None. May be called on any thread."""
        raise NotImplementedError

    def select_release(self, rows: Rows | None) -> Selection:
        """Returns the selection for a request, given what `read_body` returned."""
        raise NotImplementedError


class ReplyObserver:
    """Observes how one request ends. This is a base class.

    Attributes:
        reads_rows: Whether `on_succeeded` reads rows, so that they must be in memory.
    """

    __slots__ = ()

    reads_rows = True

    def on_succeeded(self, replies: ReplyEncoder, start: int, row_count: int) -> None:
        """Handles a response from rows `start` to `start + row_count` of a reply."""
        raise NotImplementedError

    def on_failed(self, error: PexdockError, *, blamed: bool) -> None:
        """Handles an error. `blamed` is true if the release caused it."""
        raise NotImplementedError

    def on_progress(self, progress: Progress) -> None:
        """Handles a report of the handler, while it computes a job."""

    def on_abandoned(self) -> None:
        """Handles a client that has disconnected."""
        raise NotImplementedError


class Mirror:
    """Sends copies of requests to another release. This is a base class."""

    __slots__ = ()

    def should_copy(self) -> bool:
        """Returns whether the next request is to be copied. Called once for each request."""
        raise NotImplementedError

    def copy(self, head: RequestHead, rows: Rows, body: bytes | BodyBuffer, request_id: str) -> ReplyObserver | None:
        """Copies a request, and returns the observer of the original; None if the copy is skipped."""
        raise NotImplementedError


def _decode_raw(body: bytes) -> Rows:
    return Rows(request_frame(body), "")
