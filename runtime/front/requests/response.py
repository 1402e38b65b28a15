"""An HTTP response, whole or streamed."""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.requests.response_stream import ResponseStream

Headers = list[tuple[bytes, bytes]]


class HttpResponse(NamedTuple):
    """A response to one request.

    Attributes:
        media_type: The media type of the body; empty for a response without a Content-Type header.
        body: The whole body; empty if it is streamed. A memoryview refers to a worker's reply, so drop it once it is sent.
        more: Further headers, with names in lower case.
        stream: Parts of a streamed body.
    """

    status: int
    media_type: bytes
    id: str
    body: bytes | memoryview
    more: tuple[tuple[bytes, bytes], ...] = ()
    stream: ResponseStream | None = None

    @property
    def headers(self) -> Headers:
        """All headers except those that depend on the connection or on the transfer of the body."""
        headers = [(b"x-request-id", self.id.encode()), *self.more]
        return [(b"content-type", self.media_type), *headers] if self.media_type else headers


def drop_response(_: HttpResponse) -> None:
    """Does nothing: for requests whose response nobody reads."""
