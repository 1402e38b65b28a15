"""The header fields that the fast path reads. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.front.requests.hints import PRIORITY_HEADER, TIMEOUT_HEADER, VERSION_HEADER


class PlainHeaders(NamedTuple):
    """The headers of a request whose body has a known length. The values of headers that are missing are empty."""

    body_bytes: int
    content_type: str
    accept: str
    version: bytes
    timeout: bytes
    priority: bytes


def plain_headers(headers: Iterable[tuple[bytes, bytes]]) -> PlainHeaders | None:
    """Returns what the fast path needs of headers with names in lower case; None where the request needs the ASGI application."""
    length = content_type = accept = version = timeout = priority = b""
    for name, value in headers:
        if name == b"content-length":
            length = value.rstrip(b" \t")
        elif name == b"content-type":
            content_type = value
        elif name == b"accept":
            accept = value
        elif name == VERSION_HEADER:
            version = value
        elif name == TIMEOUT_HEADER:
            timeout = value
        elif name == PRIORITY_HEADER:
            priority = value
        elif name in _NOT_PLAIN:
            return None
    if not length.isdigit():
        return None
    return PlainHeaders(int(length), content_type.decode("latin-1"), accept.decode("latin-1"), version, timeout, priority)


_NOT_PLAIN = frozenset((b"transfer-encoding", b"expect", b"content-encoding"))
