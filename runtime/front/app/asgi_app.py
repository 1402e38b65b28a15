"""The ASGI application: requests that need more than the fast path."""

from __future__ import annotations

_NO_KEY = "show a key that is in force, as `Authorization: Bearer KEY` or `X-API-Key: KEY`"


class Disconnected(Exception):
    """The client hung up before its body was whole."""
