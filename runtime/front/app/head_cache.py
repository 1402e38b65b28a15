"""A cache of parsed request heads."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from runtime.front.requests.request_head import RequestHead

HEADS_MAX, HEAD_MAX_BYTES = 1024, 1024
"""Bounds of the cache. Where no two heads are equal, the cache costs a request a tenth of what parsing does."""


class CachedHead(NamedTuple):
    """A parsed head. After it come `body_bytes` of body, and then the connection takes another request."""

    head: RequestHead
    body_bytes: int


class HeadCache:
    """Holds parsed heads by their exact bytes: most clients send the same head again and again.

    A head means the same until the routing table or the API keys change. Whoever changes one of them must clear the cache.

    Attributes:
        find: Returns the parsed form of a head, which includes its empty line, or None if it is unknown. It is the method of a dict,
            because this is called for every request.
    """

    __slots__ = ("_heads", "find")

    def __init__(self) -> None:
        self._heads: dict[bytes, CachedHead] = {}
        self.find: Callable[[bytes], CachedHead | None] = self._heads.get

    def __len__(self) -> int:
        return len(self._heads)

    def learn(self, head: bytes, cached: CachedHead) -> None:
        """Remembers a head, unless it is too long. A full cache is emptied first."""
        if len(head) <= HEAD_MAX_BYTES:
            if len(self._heads) >= HEADS_MAX:
                self._heads.clear()
            self._heads[head] = cached

    def clear(self) -> None:
        """Forgets all heads."""
        self._heads.clear()
