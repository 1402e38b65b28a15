"""The headers with which a client requests a time limit, an urgency or a release. Pure.

`X-Request-Timeout-Ms` is a whole number of milliseconds. The urgency is that of the `Priority` header (RFC 9218): `u=0` goes first, `u=7`
last, and 3 is the default. As the RFC demands, parameters that cannot be parsed are ignored. So are preferences (`Prefer`, RFC 7240) other
than `handling=strict`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from base.errors import Malformed

TIMEOUT_HEADER = b"x-request-timeout-ms"
PRIORITY_HEADER = b"priority"
PREFER_HEADER = b"prefer"
VERSION_HEADER = b"x-pexdock-version"
"""Header that requests a release by version or label."""

DEFAULT_URGENCY = 3

_TIMEOUT_MAX_DIGITS = 12
_URGENCY = re.compile(rb"(?:.*,)?[ \t]*u=([0-7])[ \t]*(?:[,;]|$)")
"""Matches up to the last urgency, which counts (RFC 8941, 3.2)."""


class RequestHints(NamedTuple):
    """The time limit and urgency that a client requests.

    Attributes:
        timeout_ms: Time limit in milliseconds; None if the client sets none.
        urgency: 0 to 7; 0 goes first.
        strict: Whether no part of a request is to be answered if another part fails.
    """

    timeout_ms: int | None = None
    urgency: int = DEFAULT_URGENCY
    strict: bool = False


NO_HINTS = RequestHints()


def hints_from_headers(headers: Mapping[bytes, bytes]) -> RequestHints:
    """Returns the hints in a request's headers; names are in lower case.

    Raises:
        Malformed: as `parse_hints`.
    """
    return parse_hints(headers.get(TIMEOUT_HEADER, b""), headers.get(PRIORITY_HEADER, b""), headers.get(PREFER_HEADER, b""))


def parse_hints(timeout: bytes, priority: bytes, prefer: bytes = b"") -> RequestHints:
    """Returns the hints in the values of these headers. The value of a missing header is empty.

    Raises:
        Malformed: the timeout is not a positive whole number.
    """
    if not timeout and not priority and not prefer:
        return NO_HINTS
    is_strict = bool(prefer) and parse_preferences(prefer).get("handling", "").lower() == "strict"
    return RequestHints(_parse_milliseconds(timeout) if timeout else None, _parse_urgency(priority), is_strict)


def parse_preferences(value: bytes) -> dict[str, str]:
    """Returns the preferences in a Prefer header, by their names in lower case. Of repeated ones the first counts (RFC 7240, 2)."""
    found: dict[str, str] = {}
    for preference in value.decode("latin-1").split(","):
        name, _, given = preference.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), given.strip().strip('"'))
    return found


def _parse_milliseconds(value: bytes) -> int:
    if not value.isdigit() or len(value) > _TIMEOUT_MAX_DIGITS or int(value) == 0:
        raise Malformed("X-Request-Timeout-Ms must be a positive whole number of milliseconds")
    return int(value)


def _parse_urgency(value: bytes) -> int:
    found = _URGENCY.match(value)
    return DEFAULT_URGENCY if found is None else int(found[1])
