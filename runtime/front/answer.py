"""A finished HTTP answer."""

from __future__ import annotations

from typing import NamedTuple


class Answer(NamedTuple):
    """Status, headers (names in lower case), body."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
