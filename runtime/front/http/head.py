"""A request's head: what the fast path must know of it, and how it reads without what nobody here takes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from runtime.front.requests import headers as wishes
from runtime.front.requests.headers import VERSION


class PlainHead(NamedTuple):
    """Of a request with a body of known length; the values of headers that are missing are empty."""

    body_bytes: int
    content_type: str
    accept: str
    version: bytes
    timeout: bytes
    priority: bytes


def plain(headers: Iterable[tuple[bytes, bytes]]) -> PlainHead | None:
    """What these headers say, names in lower case; None where the fast path is not for them."""
    length = content_type = accept = version = timeout = priority = b""
    for name, value in headers:
        if name == b"content-length":
            length = value.rstrip(b" \t")
        elif name == b"content-type":
            content_type = value
        elif name == b"accept":
            accept = value
        elif name == VERSION:
            version = value
        elif name == wishes.TIMEOUT:
            timeout = value
        elif name == wishes.PRIORITY:
            priority = value
        elif name in _DECLINED:
            return None
    if not length.isdigit():
        return None
    return PlainHead(int(length), content_type.decode("latin-1"), accept.decode("latin-1"), version, timeout, priority)


def without_offers(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The same head without its offer of another protocol. It closes the connection if it did so before."""
    headers = list(headers)
    kept = [each for each in headers if each[0] not in _OFFERS]
    if any(b"close" in value.lower() for name, value in headers if name == b"connection"):
        kept.append((b"connection", b"close"))
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % each for each in kept), b"", b""])


_OFFERS = frozenset((b"connection", b"upgrade", b"http2-settings"))

_DECLINED = frozenset((b"transfer-encoding", b"expect", b"content-encoding"))
