"""Rules that make a request head unambiguous (RFC 9112). Pure.

The parser rejects most heads that two servers could read differently, but accepts some of them: unsupported transfer codings, HTTP/1.0 with
chunks, heads without a Host header or with two. If a proxy reads such a head in another way, it may forward a request that it never saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

HEAD_MAX_BYTES = 64 * 1024
"""Limit of what a request may send apart from its body: head, chunk extensions and trailers. Ten times what browsers send."""

_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_SINGLE = frozenset(
    (
        b"authorization",
        b"content-encoding",
        b"content-type",
        b"x-api-key",
        b"x-content-sha256",
        b"x-pexdock-version",
        b"x-request-timeout-ms",
    )
)
"""Other headers with one value (RFC 9110, 5.3). With two, a proxy could obey one and the endpoint the other."""
_TARGET = re.compile(rb"(?:https?://[!-.0-~]+)?/[!\"$-~]*", re.IGNORECASE)


class InvalidHead(ValueError):
    """A request head is not allowed; the message says why."""


class HeadTooLarge(InvalidHead):
    """A request head is larger than the limit."""

    def __init__(self) -> None:
        super().__init__(f"the head of a request may have {HEAD_MAX_BYTES} bytes")


def check_head(method: bytes, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Checks a head that the parser has accepted.

    Args:
        method: The method.
        target: The request target as received.
        version: HTTP version, such as "1.1".
        headers: Headers with names in lower case.

    Raises:
        InvalidHead: The head is ambiguous or malformed.
        HeadTooLarge: The head is too large, wherever in the received data it began.
    """
    _check_size(method, target, headers)
    if version not in ("1.1", "1.0"):
        raise InvalidHead(f"unsupported version HTTP/{version}; use HTTP/1.1 or HTTP/1.0")
    if not _TARGET.fullmatch(target):
        raise InvalidHead("invalid request target: neither a path nor a URL with a path")
    hosts = lengths = codings = 0
    single: tuple[bytes, ...] = ()
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value.rstrip(b" \t")):
                raise InvalidHead("invalid Host header")
        elif name == b"content-length":
            lengths += 1
            if not _LENGTH.fullmatch(value.rstrip(b" \t")):
                raise InvalidHead("invalid Content-Length: not a number of bytes")
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip(b" \t").lower() != b"chunked":
                raise InvalidHead("unsupported Transfer-Encoding; only chunked is supported")
        elif name in _SINGLE:
            if name in single:
                raise InvalidHead(f"a request may have only one {name.decode().title()} header")
            single = (*single, name)
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidHead(f"a request needs exactly one Host header, and this has {hosts}")
    if lengths + codings > 1:
        raise InvalidHead("a request may have only one header that ends its body, either Content-Length or Transfer-Encoding")
    if codings and version == "1.0":
        raise InvalidHead("HTTP/1.0 does not support Transfer-Encoding")


def _check_size(method: bytes, target: bytes, headers: Sequence[tuple[bytes, bytes]]) -> None:
    size = len(method) + len(target) + len(b"  HTTP/1.1\r\n\r\n")
    for name, value in headers:
        size += len(name) + len(value) + len(b": \r\n")
    if size > HEAD_MAX_BYTES:
        raise HeadTooLarge


def combine_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Returns each header once: repeated ones are a list, whose elements count in their order (RFC 9110, 5.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = value if name not in found else found[name] + (b"; " if name == b"cookie" else b", ") + value
    return found


class IgnoringParser:
    """Replaces the parser of a connection whose input is ignored from now on."""

    def feed_data(self, data: bytes) -> None:
        """Ignores the data."""
