"""Rules that a response of a raw endpoint must follow, so that its client reads the right bytes (RFC 9110). Pure.

A response with a body where HTTP allows none ends earlier for its client than for the server: the rest would be read as the response to the
next request on the connection, which may be for another model.
"""

from __future__ import annotations

import operator
import re
from typing import SupportsIndex

from base.errors import BadResult

MEDIA_TYPE_MAX_CHARS = 1000
"""Several times what any media type with its parameters takes."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_QUOTED = r'"(?:[\t !#-\[\]-~]|\\[\t -~])*"'
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*(?:{_WORD}=(?:{_WORD}|{_QUOTED}))?)*")


class InvalidResponse(BadResult, ValueError):
    """A handler makes a response that HTTP does not allow. Its author meets it as a ValueError, and its client as a bad result."""


def allows_body(status: int) -> bool:
    """Returns whether a response with this status may have a body (RFC 9110, 6.4.1 and 15.3.6)."""
    return status >= 200 and status not in (204, 205, 304)


def check_response(status: object, content_type: object, body_bytes: int) -> None:
    """Checks a response that a handler makes.

    Args:
        status: Its status.
        content_type: Its media type; empty for a response without a Content-Type header.
        body_bytes: Length of its body.

    Raises:
        InvalidResponse: HTTP does not allow the response, or the status is not 200 to 299; the message says what to do.
    """
    if not isinstance(status, SupportsIndex):
        raise InvalidResponse(f"status {status!r} is not a whole number")
    whole = operator.index(status)
    if not 200 <= whole <= 299:
        raise InvalidResponse(f"status {status} is not between 200 and 299; raise base.errors.Reject to refuse a request")
    if body_bytes and not allows_body(whole):
        raise InvalidResponse(
            f"a response with status {status} has no body, and this has {body_bytes} bytes: use status 200, or an empty body"
        )
    if not isinstance(content_type, str) or len(content_type) > MEDIA_TYPE_MAX_CHARS:
        raise InvalidResponse(f"a media type is a string of at most {MEDIA_TYPE_MAX_CHARS} characters, such as 'text/plain'")
    if content_type and not _MEDIA_TYPE.fullmatch(content_type):
        raise InvalidResponse(f"{content_type!r} is not a media type; write it as in 'text/plain; charset=utf-8'")
