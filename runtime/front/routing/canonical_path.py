"""The canonical form of a request's path, by which everything in a front door decides. Pure.

Clients can write one path in many ways: `/iris`, `/iris/`, `/%69ris`. All of them have one canonical form, so that no two of them lead to
different endpoints. A path is split at `/` before it is decoded, so an encoded slash starts no segment. Each segment is decoded exactly
once. Dot segments and empty segments are not resolved: no endpoint has them, and no parameter takes them as its value.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import product
from urllib.parse import unquote_to_bytes

_PLAIN = rb"A-Za-z0-9._~!$&'()*+,;=:@\-"
"""Characters that are not escaped in the canonical form (RFC 3986, pchar), as in a regular expression."""

_CANONICAL = re.compile(rb"(?:/[%b]+)+" % _PLAIN)
"""Most paths: they are canonical without any change."""

_OTHER = re.compile(rb"%%[0-9A-Fa-f]{2}|[^%b/]" % _PLAIN)
"""An escape, or a character that is not plain."""

_DIGITS = "0123456789ABCDEFabcdef"


def _canonical_byte(byte: int) -> bytes:
    return bytes([byte]) if re.fullmatch(rb"[%b]" % _PLAIN, bytes([byte])) else b"%%%02X" % byte


_SPELLINGS = {bytes([byte]): _canonical_byte(byte) for byte in range(256)} | {
    f"%{high}{low}".encode(): _canonical_byte(int(high + low, 16)) for high, low in product(_DIGITS, repeat=2)
}
"""Every spelling of a byte that `_OTHER` finds, and its canonical form."""


@lru_cache(32)
def canonical_path(raw_path: bytes) -> bytes:
    """Returns the canonical form of a path as received. The canonical form of a canonical path is the path itself.

    The last results are cached, since several parts of a front door ask for the form of the same path.
    """
    if _CANONICAL.fullmatch(raw_path):
        return raw_path
    path = _OTHER.sub(lambda found: _SPELLINGS[found[0]], raw_path)
    return path[:-1] if path.endswith(b"/") and not path.endswith(b"//") and path != b"/" else path


def split_path(raw_path: bytes) -> list[bytes]:
    """Returns the decoded segments of a path. A single trailing slash makes no difference, so `/` has no segment."""
    segments = raw_path.split(b"/")[1:]
    if segments and not segments[-1]:
        del segments[-1]
    return [unquote_to_bytes(segment) for segment in segments] if b"%" in raw_path else segments
