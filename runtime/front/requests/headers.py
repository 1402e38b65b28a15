"""What a client's headers wish of how its request is served: how long it may take, and how urgent it is. Pure.

`X-Request-Timeout-Ms` is a whole number of milliseconds. Urgency is that of `Priority` (RFC 9218): `u=0` goes first, `u=7` last, 3 is what
those have that say nothing; what cannot be understood of it is ignored, as the RFC wants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from base.errors import Malformed

TIMEOUT = b"x-request-timeout-ms"
PRIORITY = b"priority"
URGENCY = 3

_TIMEOUT_MAX_DIGITS = 12
_URGENCY = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?:[,;]|$)")


class RequestHints(NamedTuple):
    """Of one request; `timeout_ms` is None where it says nothing of that."""

    timeout_ms: int | None = None
    urgency: int = URGENCY


NONE = RequestHints()


def of(headers: Mapping[bytes, bytes]) -> RequestHints:
    """As `read`, of all headers; names in lower case."""
    return read(headers.get(TIMEOUT, b""), headers.get(PRIORITY, b""))


def read(timeout: bytes, priority: bytes) -> RequestHints:
    """What these two headers say; empty where they are missing.

    Raises:
        Malformed: the timeout is no whole number of milliseconds from 1 on.
    """
    if not timeout and not priority:
        return NONE
    return RequestHints(_milliseconds(timeout) if timeout else None, _urgency(priority))


def _milliseconds(value: bytes) -> int:
    if not value.isdigit() or len(value) > _TIMEOUT_MAX_DIGITS or int(value) == 0:
        raise Malformed("X-Request-Timeout-Ms must be a whole number of milliseconds, from 1 on")
    return int(value)


def _urgency(value: bytes) -> int:
    found = _URGENCY.search(value)
    return URGENCY if found is None else int(found[1])


VERSION = b"x-pexdock-version"
"""The header by which a client asks for a release, by version or label."""
