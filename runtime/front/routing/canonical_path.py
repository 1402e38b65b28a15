"""The canonical form of a request's path, by which everything in a front door decides. Pure.

Clients can write one path in many ways: `/iris`, `/iris/`, `/%69ris`. All of them have one canonical form, so that no two of them lead to
different endpoints. A path is split at `/` before it is decoded, so an encoded slash starts no segment. Each segment is decoded exactly
once. Dot segments and empty segments are not resolved: no endpoint has them, and no parameter takes them as its value.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

_PLAIN = "!$&'()*+,;=:@"
"""Characters besides letters, digits and `-._~` that are not escaped in the canonical form (RFC 3986, pchar)."""

_CANONICAL = re.compile(rb"(?:/[A-Za-z0-9._~!$&'()*+,;=:@-]+)+")
"""Most paths: they are canonical without any change."""


def canonical_path(raw_path: bytes) -> bytes:
    """Returns the canonical form of a path as received. The canonical form of a canonical path is the path itself."""
    if _CANONICAL.fullmatch(raw_path):
        return raw_path
    path = "".join(f"/{quote_from_bytes(segment, _PLAIN)}" for segment in split_path(raw_path))
    return (path + "/" if path.endswith("/") or not path else path).encode()


def split_path(raw_path: bytes) -> list[bytes]:
    """Returns the decoded segments of a path. A single trailing slash makes no difference, so `/` has no segment."""
    segments = raw_path.split(b"/")[1:]
    if segments and not segments[-1]:
        del segments[-1]
    return [unquote_to_bytes(segment) for segment in segments] if b"%" in raw_path else segments
