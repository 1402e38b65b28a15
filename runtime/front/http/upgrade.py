"""Offers of other protocols, which are declined. Pure."""

from __future__ import annotations

from collections.abc import Iterable


def without_offers(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the head of a request without its offer of another protocol. It still closes the connection if it did so before."""
    headers = list(headers)
    kept = [each for each in headers if each[0] not in _OFFERS]
    if any(b"close" in value.lower() for name, value in headers if name == b"connection"):
        kept.append((b"connection", b"close"))
    return b"\r\n".join([b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % each for each in kept), b"", b""])


_OFFERS = frozenset((b"connection", b"upgrade", b"http2-settings"))
