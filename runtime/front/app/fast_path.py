"""The fast path: decides by the head of a request whether it can be answered without the ASGI application."""

from __future__ import annotations

from typing import NamedTuple

from base.errors import PexdockError, TooLarge
from runtime.front.app import health
from runtime.front.codecs.values.limits import EXPANDED_MAX_BYTES
from runtime.front.memory.body_buffer import BODY_BUFFER_MIN_BYTES, BodyBuffer
from runtime.front.memory.table_files import TableFiles
from runtime.front.requests.hints import PREFER_HEADER, PRIORITY_HEADER, TIMEOUT_HEADER, VERSION_HEADER, parse_hints
from runtime.front.requests.request_head import RequestHead
from runtime.front.requests.target import Target
from runtime.front.routing.route_table import RouteTable
from runtime.http.api_keys import ApiKeys
from runtime.http.head_rules import combine_headers


class PlainHead(NamedTuple):
    """A head that the fast path takes, the length of its body, and memory for the body if it needs its own."""

    head: RequestHead
    body_bytes: int
    body_buffer: BodyBuffer | None


class FastPath:
    """Reads heads of plain predictions: POST to an endpoint whose requests share batches, with a body of known length.

    Args:
        routes: Routes of the table in force.
        body_max_bytes: Limit of a request body.
        table_files: The files of large tables, whose requests go to the ASGI application.

    Attributes:
        keys: Valid API keys; None if requests need none.
    """

    def __init__(self, routes: RouteTable, body_max_bytes: int, table_files: TableFiles) -> None:
        self._routes = routes
        self._table_files = table_files
        self.body_max_bytes = body_max_bytes
        self.keys: ApiKeys | None = None

    def read_head(self, url: bytes, headers: list[tuple[bytes, bytes]]) -> PlainHead | None:
        """Returns the head of a POST request if the fast path takes it; None if the ASGI application must answer.

        This reports no errors: the application finds the same errors, and reports them before it reads the body.

        Args:
            url: The request target as received.
            headers: Header fields, with names in lower case.
        """
        target = self._routes.cached_target(url) or self._route(url)
        if (
            target is None
            or not target.admitted
            or (spec := target.endpoint.spec).unbatched
            or spec.job
            or (spec.whole and spec.reply_parts)
        ):
            return None  # the response to a whole request may be large, and is streamed then
        if (self.keys is not None and not self.keys.admits(headers)) or (target.split and not self._routes.always_batched(target)):
            return None
        length = content_type = accept = version = timeout = priority = b""
        for name, value in headers:
            if name == b"content-length":
                length = value.rstrip(b" \t")
            elif name == b"content-type":
                content_type = value
            elif name == b"accept":
                accept = accept + b", " + value if accept else value
            elif name == VERSION_HEADER:
                version = value
            elif name == TIMEOUT_HEADER:
                timeout = value
            elif name == PRIORITY_HEADER:
                priority = priority + b", " + value if priority else value
            elif name in _NOT_PLAIN:
                return None
        body_bytes = int(length) if length.isdigit() else -1
        if not 0 <= body_bytes <= self.body_max_bytes:
            return None
        try:
            if version or target.split:
                head = self._routes.request_head(target, combine_headers(headers), content_type.decode("latin-1"), accept.decode("latin-1"))
            else:
                head = RequestHead(target, content_type.decode("latin-1"), accept.decode("latin-1"))
                if timeout or priority:
                    head.apply_hints(parse_hints(timeout, priority))
            head.may_be_slow = body_bytes > head.quick_bytes
            return PlainHead(head, body_bytes, None if body_bytes < BODY_BUFFER_MIN_BYTES else self._allocate_buffer(head, body_bytes))
        except PexdockError:
            return None

    def _allocate_buffer(self, head: RequestHead, body_bytes: int) -> BodyBuffer | None:
        if is_for_file(head, body_bytes, self._table_files):
            raise TooLarge("a table that the ASGI application reads into a file")
        return allocate_body_buffer(head, body_bytes)

    def _route(self, url: bytes) -> Target | None:
        path, has_query, query = url.partition(b"?")
        if not url.startswith(b"/") or b"#" in url or health.page_of(path) is not None:
            return None
        try:
            target = self._routes.route(path, query)
            return None if has_query and target is not None and not target.takes_query else target
        except PexdockError:
            return None


def allocate_body_buffer(head: RequestHead, body_bytes: int) -> BodyBuffer | None:
    """Returns memory for a body that is still to come, if it is a large Arrow body; else None.

    Raises:
        Full: No memory is left. Nothing was reserved.
    """
    if body_bytes < BODY_BUFFER_MIN_BYTES or not head.is_arrow:
        return None
    return BodyBuffer.allocate(body_bytes, head.target.endpoint.release.budget)


def is_for_file(head: RequestHead, body_bytes: int, files: TableFiles) -> bool:
    """Returns whether a body that is still to come belongs into a file: it is large, or a Parquet file that may expand to much."""
    if body_bytes < BODY_BUFFER_MIN_BYTES or not head.is_table:
        return False
    return body_bytes > files.file_min_bytes or (not head.is_arrow and files.expanded_max_bytes > EXPANDED_MAX_BYTES)


_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"content-encoding", PREFER_HEADER))
