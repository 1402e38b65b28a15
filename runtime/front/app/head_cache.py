"""Request heads that were parsed before, byte for byte."""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.requests.target import RequestHead


class CachedHead(NamedTuple):
    """A head that was parsed before, byte for byte, with all that it says: so many bytes of body follow, and then another request may."""

    head: RequestHead
    body_bytes: int
