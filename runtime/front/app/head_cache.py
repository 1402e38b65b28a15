"""A cache of parsed request heads."""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.requests.request_head import RequestHead

HEADS_MAX, HEAD_MAX_BYTES = 1024, 1024
"""Bounds of the cache. If no two heads are equal, the cache costs a request a tenth of the time that parsing takes."""


class CachedHead(NamedTuple):
    """A parsed head. A body of `body_bytes` follows it, and after that the connection takes another request."""

    head: RequestHead
    body_bytes: int


class HeadCache(dict[bytes, CachedHead]):
    """Parsed heads by their exact bytes, including the empty line. Most clients send the same head again and again.

    A head keeps its meaning until the routing table or the API keys change; code that changes one of them must clear the cache. It is a
    dict, because it is read for every request. The code that adds heads must keep the two bounds.
    """

    __slots__ = ()
