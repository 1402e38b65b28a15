"""What a request's head must be for everybody to see the same request in it (RFC 9112). Pure.

The parser refuses much of what could be read in two ways, and lets some of it pass: codings that nobody here decodes, HTTP/1.0 with chunks,
heads without a host or with two. A proxy that reads such a head otherwise would be made to pass on a request that it never saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEAD_MAX_BYTES = 64 * 1024
"""What may come of a request without a byte of its body: its head, a chunk's extensions, its trailers. Ten times what browsers send."""

_LENGTH = re.compile(rb"[0-9]{1,18}")
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_TARGET = re.compile(rb"(?:https?://[!-.0-~]+)?/[!\"$-~]*", re.IGNORECASE)


class InvalidHead(ValueError):
    """A head that may not be; its text says why."""


def check_head(target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
    """Looks at a head that the parser took.

    Args:
        target: what was asked for, as it came.
        version: such as "1.1".
        headers: names in lower case.

    Raises:
        InvalidHead: it can be read in more than one way, or is none.
    """
    if version not in ("1.1", "1.0"):
        raise InvalidHead("only HTTP/1.1 and HTTP/1.0 are spoken here")
    if not _TARGET.fullmatch(target):
        raise InvalidHead("what is asked for is neither a path nor a URL with one")
    hosts = lengths = codings = 0
    for name, value in headers:
        if name == b"host":
            hosts += 1
            if not _HOST.fullmatch(value.rstrip(b" \t")):
                raise InvalidHead("the header Host names no host")
        elif name == b"content-length":
            lengths += 1
            if not _LENGTH.fullmatch(value.rstrip(b" \t")):
                raise InvalidHead("Content-Length is no number of bytes")
        elif name == b"transfer-encoding":
            codings += 1
            if value.strip(b" \t").lower() != b"chunked":
                raise InvalidHead("a body may be sent in chunks, and in no other transfer coding")
    if hosts > 1 or (not hosts and version == "1.1"):
        raise InvalidHead("a request has one header Host")
    if lengths + codings > 1:
        raise InvalidHead("a request has one header that says where its body ends, Content-Length or Transfer-Encoding")
    if codings and version == "1.0":
        raise InvalidHead("HTTP/1.0 has no Transfer-Encoding")


class IgnoringParser:
    """In the place of a parser, where nothing that comes is read any more."""

    def feed_data(self, data: bytes) -> None:
        """Keeps nothing of it."""
