"""A finished HTTP answer, or one whose body is still to come in parts."""

from __future__ import annotations

from typing import NamedTuple

from runtime.front.stream import Stream


class Answer(NamedTuple):
    """Status, headers (names in lower case), body. With a `stream` the body is empty, and comes from there."""

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    stream: Stream | None = None
