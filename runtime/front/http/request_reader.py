"""Reads requests from the bytes of one connection, and hands each to the fast path or to the ASGI application.

The fast path takes a plain prediction as soon as its body is complete: a POST to an endpoint whose requests share batches, with a body of
known length and nothing to negotiate. The application gets all other requests. It could also answer plain predictions, with the same
responses.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import httptools

from base.errors import Malformed, PexdockError, TooLarge
from runtime.front.app.fast_path import PlainHead
from runtime.front.app.head_cache import HEAD_MAX_BYTES, HEADS_MAX, CachedHead
from runtime.front.app.service import InferenceService
from runtime.front.http.connection_state import (
    ASGI_BODY,
    DRAIN,
    ENDING,
    IDLE,
    IN_HEAD,
    LAST_ASGI_BODY,
    LAST_COMPLETE,
    LAST_HEAD,
    LOST,
    MESSAGE_BEGUN,
    MESSAGE_COMPLETE,
    NEXT,
    PASSED,
    READING,
    SKIPPED,
    STOP,
    TAKEN,
    ConnectionState,
)
from runtime.front.memory.body_buffer import BodyBuffer
from runtime.front.requests.request_head import RequestHead
from runtime.http import head_rules

if TYPE_CHECKING:
    from runtime.front.http.asgi_requests import AsgiRequests


class RequestSink(asyncio.Protocol):
    """The connection, as its reader sees it.

    Attributes:
        asgi: Requests that the ASGI application answers; None before the first.
    """

    asgi: AsgiRequests | None

    def submit(self, head: RequestHead, body: bytes | BodyBuffer) -> None:
        """Submits a request of the fast path."""
        raise NotImplementedError

    def begin_asgi(self, parser: Any, url: bytes, headers: list[tuple[bytes, bytes]], *, last: bool) -> None:
        """Gives a request whose head is complete to the ASGI application. No other request follows if it is the `last`."""
        raise NotImplementedError

    def on_refused(self, error: PexdockError, *, head_only: bool) -> None:
        """Handles data that is not a valid request. Nothing more will be read. The response has no body if it is `head_only`."""
        raise NotImplementedError


class IncomingRequest:
    """A request of the fast path whose body is not yet complete."""

    __slots__ = ("body_buffer", "body_bytes", "head", "keep_alive", "missing_bytes", "parts")

    def __init__(self, plain: PlainHead, *, keep_alive: bool) -> None:
        self.head, self.body_bytes, self.body_buffer = plain
        self.missing_bytes = self.body_bytes
        self.keep_alive = keep_alive
        self.parts: list[bytes] = []


class RequestReader:
    """Reads the requests of one connection. The parser calls its `on_` methods.

    Attributes:
        state: State of the connection.
        messages: Number of requests that have begun.
        incoming: The request of the fast path whose body is being read; None if there is none.
    """

    __slots__ = ("_framing_bytes", "_headers", "_parser", "_service", "_sink", "_url", "_whole", "incoming", "messages", "state")

    def __init__(self, sink: RequestSink, service: InferenceService) -> None:
        self._sink = sink
        self._service = service
        # Stricter than uvicorn's parser: data after "Connection: close" is an error, not a request.
        self._parser: Any = httptools.HttpRequestParser(self)
        self.state: ConnectionState = IDLE
        self.messages = 0
        self.incoming: IncomingRequest | None = None
        self._whole: IncomingRequest | None = None  # the latest request, if the fast path took it and no other has begun
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._framing_bytes = 0  # bytes since the last byte of a body, or since the last request was complete

    def feed(self, data: bytes) -> None:
        """Parses bytes, with which requests may begin, continue or end."""
        first = self.messages + 1 if self.state is IDLE else -1
        self._framing_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            self._decline_upgrade(data[exc.args[0] :])
        except httptools.HttpParserCallbackError as exc:
            if not isinstance(exc.__context__, head_rules.InvalidHead | httptools.HttpParserInvalidURLError | UnicodeDecodeError):
                raise  # a bug of ours, for which the loop closes the connection
            reason = str(exc.__context__) if isinstance(exc.__context__, head_rules.InvalidHead) else _NOT_HTTP
            self._refuse((TooLarge if isinstance(exc.__context__, head_rules.HeadTooLarge) else Malformed)(reason))
        except httptools.HttpParserError:
            self._refuse(Malformed(_NOT_HTTP))
        else:
            if self._framing_bytes > head_rules.HEAD_MAX_BYTES:
                self._refuse(TooLarge(str(head_rules.HeadTooLarge())))
            whole, self._whole = self._whole, None  # cached heads may follow for hours; do not keep a release alive meanwhile
            # Only if nothing follows the body, not even an empty line, is the data one complete request, whose head precedes the body. Then
            # the first empty line ends the head.
            if whole is not None and whole.keep_alive and self.messages == first:
                head = data[: len(data) - whole.body_bytes]
                if len(head) <= HEAD_MAX_BYTES and head.find(b"\r\n\r\n") == len(head) - 4:
                    heads = self._service.heads
                    if len(heads) >= HEADS_MAX:
                        heads.clear()
                    heads[head] = CachedHead(whole.head, whole.body_bytes)

    def drain(self) -> None:
        """Treats the request that is being read, or else the next one, as the last."""
        self.state = NEXT[self.state][DRAIN]

    def stop(self) -> None:
        """Stops taking requests, and drops a request that is not complete."""
        self.state = NEXT[self.state][STOP]
        self._drop_incoming()

    def _drop_incoming(self) -> None:
        """Frees the memory of a request whose body will never be complete."""
        incoming, self.incoming = self.incoming, None
        if incoming is not None and incoming.body_buffer is not None:
            incoming.body_buffer.close()

    def close(self) -> None:
        """Handles the end of the connection. Drops the parser, which refers back to this reader."""
        self.state = NEXT[self.state][LOST]
        self._drop_incoming()
        self._parser = head_rules.IgnoringParser()

    def finish_buffer(self) -> None:
        """Handles the end of a body that bypassed the parser into its buffer. A new parser reads the following data."""
        self._parser = httptools.HttpRequestParser(self)
        self.on_message_complete()

    # ---- events of the parser

    def on_message_begin(self) -> None:
        """Handles the beginning of a request."""
        self.state = NEXT[self.state][MESSAGE_BEGUN]
        self._url = b""
        self._headers = []
        self._whole = None
        self.messages += 1

    def on_url(self, url: bytes) -> None:
        """Handles a piece of the request's target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Handles a header field. Trailers are ignored (RFC 9110, 6.5.1)."""
        if self.state in IN_HEAD:
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decides whether the fast path or the ASGI application gets the request.

        Raises:
            InvalidHead: The head is invalid. The parser passes the error on and parses nothing more.
        """
        parser, state = self._parser, self.state
        version = parser.get_http_version()
        if state is not ENDING:
            head_rules.check_head(parser.get_method(), self._url, version, self._headers)
        if state is ENDING or parser.should_upgrade():
            self.state = NEXT[state][SKIPPED]
            return
        asgi = self._sink.asgi
        # While the application has requests to answer, it gets all later requests too, so that responses keep their order.
        if (asgi is None or not asgi.is_open) and parser.get_method() == b"POST":
            plain = self._service.fast_path.read_head(self._url, self._headers)
            if plain is not None:
                self.incoming = IncomingRequest(plain, keep_alive=version == "1.1" and parser.should_keep_alive())
                self.state = NEXT[state][TAKEN]
                return
        self.state = NEXT[state][PASSED]
        self._sink.begin_asgi(parser, self._url, self._headers, last=state is LAST_HEAD)

    def on_body(self, body: bytes) -> None:
        """Handles a piece of the body."""
        self._framing_bytes = 0
        incoming = self.incoming
        if incoming is not None:
            incoming.missing_bytes -= len(body)
            if incoming.body_buffer is None:
                incoming.parts.append(body)
            else:
                incoming.body_buffer.append(body)
        elif self.state in _ASGI_BODIES and self._sink.asgi is not None:
            self._sink.asgi.on_body(body)

    def on_message_complete(self) -> None:
        """Handles the end of a request."""
        self._framing_bytes = 0
        state, incoming = self.state, self.incoming
        if incoming is None:
            self.state = NEXT[state][MESSAGE_COMPLETE]
            if state in _ASGI_BODIES and self._sink.asgi is not None:
                self._sink.asgi.on_message_complete()
            return
        self.state = NEXT[state][MESSAGE_COMPLETE if incoming.keep_alive else LAST_COMPLETE]
        self.incoming, self._whole = None, incoming
        buffer, parts = incoming.body_buffer, incoming.parts
        self._sink.submit(incoming.head, buffer if buffer is not None else parts[0] if len(parts) == 1 else b"".join(parts))

    # ---- data that is not a request

    def _decline_upgrade(self, rest: bytes) -> None:
        """Parses a request again without its offer of another protocol, at which the parser stops. The front door supports only HTTP/1."""
        method, version = self._parser.get_method(), self._parser.get_http_version().encode()
        if method == b"CONNECT":
            self._refuse(Malformed(_NOT_HTTP))
        elif self.state is not ENDING:
            self._framing_bytes = 0
            self._parser = httptools.HttpRequestParser(self)  # the other one takes the request for the last if it is HTTP/1.0
            self.feed(_without_offers(method, self._url, version, self._headers) + rest)

    def _refuse(self, error: PexdockError) -> None:
        # The parser knows the method once it has met the target; before that, it has the method of the previous request.
        head_only = self.state in READING and bool(self._url) and self._parser.get_method() == b"HEAD"
        self._parser = head_rules.IgnoringParser()
        if self.state is not ENDING:
            self.stop()
            self._sink.on_refused(error, head_only=head_only)


def _without_offers(method: bytes, target: bytes, version: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the head of a request without its offer of another protocol. A request to close the connection is kept."""
    headers = list(headers)
    kept = [each for each in headers if each[0] not in _OFFERS]
    if any(b"close" in value.lower() for name, value in headers if name == b"connection"):
        kept.append((b"connection", b"close"))
    return b"\r\n".join([b"%b %b HTTP/%b" % (method, target, version), *(b"%b: %b" % each for each in kept), b"", b""])


_OFFERS = frozenset((b"connection", b"upgrade", b"http2-settings"))

_ASGI_BODIES = frozenset((ASGI_BODY, LAST_ASGI_BODY))

_NOT_HTTP = "what was sent is not an HTTP request"
