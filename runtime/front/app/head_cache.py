"""A cache of parsed request heads."""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.requests.request_head import RequestHead

HEADS_MAX, HEAD_MAX_BYTES = 1024, 1024
"""Bounds of the cache. Where no two heads are equal, the cache costs a request a tenth of what parsing does."""


class CachedHead(NamedTuple):
    """A parsed head. After it come `body_bytes` of body, and then the connection takes another request."""

    head: RequestHead
    body_bytes: int


class HeadCache(dict[bytes, CachedHead]):
    """Parsed heads by their exact bytes, which include the empty line: most clients send the same head again and again.

    A head means the same until the routing table or the API keys change. Whoever changes one of them must clear the cache. It is a dict,
    because it is read for every request. What adds a head keeps the two bounds.
    """

    __slots__ = ()
