"""The Prefer header (RFC 7240), as far as jobs need it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from runtime.front.requests.hints import parse_preferences

_WAIT_MAX_DIGITS = 6


class JobPreference(NamedTuple):
    """The preferences of a client about a job.

    Attributes:
        respond_async: It prefers a job to waiting for the response.
        wait_s: Time in seconds for which it waits for the result all the same; 0 for none.
    """

    respond_async: bool = False
    wait_s: int = 0


def parse_prefer(value: bytes) -> JobPreference:
    """Returns the preferences in a Prefer header. Unknown and invalid ones are ignored."""
    found = parse_preferences(value)
    wait = found.get("wait", "")
    return JobPreference("respond-async" in found, int(wait) if re.fullmatch(f"[0-9]{{1,{_WAIT_MAX_DIGITS}}}", wait) else 0)
