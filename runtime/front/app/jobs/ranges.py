"""Range requests for the bytes of a representation (RFC 9110, 14). Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

_SINGLE = re.compile(rb"bytes[ \t]*=[ \t]*([0-9]{0,18})[ \t]*-[ \t]*([0-9]{0,18})[ \t]*", re.IGNORECASE)


class ByteRange(NamedTuple):
    """Bytes from `start` to `end`, which is excluded."""

    start: int
    end: int


class Unsatisfiable(ValueError):
    """The range has none of the bytes."""


def requested_range(value: bytes, if_range: bytes, etag: bytes, size: int) -> ByteRange | None:
    """Returns the bytes that a request wants; None if it gets all of them.

    As the RFC allows, several ranges, other units and invalid values are ignored.

    Args:
        value: The Range header; empty if there is none.
        if_range: The If-Range header, likewise. Only the entity tag itself makes the range count, as a date does not identify the bytes.
        etag: Entity tag of the representation.
        size: Its length in bytes.

    Raises:
        Unsatisfiable: The range lies behind the end, or is empty.
    """
    found = _SINGLE.fullmatch(value)
    if found is None or (if_range and if_range.strip() != etag):
        return None
    first, last = found.groups()
    if not first:
        if not last:
            return None
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < start:
            return None
    if start >= end:
        raise Unsatisfiable
    return ByteRange(start, end)


def matches_etag(if_none_match: bytes, etag: bytes) -> bool:
    """Returns whether an If-None-Match header has this entity tag. The comparison is weak, as the RFC demands for this header."""
    tags = [each.strip().removeprefix(b"W/") for each in if_none_match.split(b",")]
    return etag in tags or b"*" in tags
