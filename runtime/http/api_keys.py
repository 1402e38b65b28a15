"""Keys that clients of predictions show: made, kept as digests, and compared.

A key is 256 random bits, so nobody finds one by trying, and a plain SHA-256 of it gives nothing away. What makes passwords safe, a slow
digest with a salt, would cost each request milliseconds and protect nothing more.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from base.errors import PexdockError

PREFIX = "pxd_"
"""So that people, and programs that look for secrets in what is published, see what it is."""

_LINE = re.compile(r"([0-9a-f]{64}) +([A-Za-z0-9._@-]{1,64})")
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_FILE_MAX_BYTES = 1024 * 1024


class BadKeys(PexdockError):
    """The file of keys cannot be understood."""

    code = "bad_keys"


def make_key(name: str) -> tuple[str, str]:
    """A new key, and its line for the file.

    Raises:
        BadKeys: the name has other characters than letters, digits and `._@-`, or more than 64 of them.
    """
    if not _NAME.fullmatch(name):
        raise BadKeys(f"a name has up to 64 letters, digits, dots, dashes, underscores or @, and {name!r} is none")
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f"{_digest(key.encode()).hex()} {name}"


def read_keys(path: Path) -> ApiKeys:
    """The keys in a file: a line each, the digest and a name; `#` begins a comment.

    Raises:
        BadKeys: it cannot be read, or a line of it is something else.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_MAX_BYTES).decode()
    except (OSError, UnicodeDecodeError) as exc:
        raise BadKeys(f"{path} cannot be read: {getattr(exc, 'strerror', None) or exc}") from exc
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.rstrip())
            if match is None:  # the line itself is not shown: somebody may have put a key there
                raise BadKeys(f"line {number} of {path} is not one that `pexdock key` prints: 64 hexadecimal digits and a name")
            found.append((bytes.fromhex(match[1]), match[2]))
    return ApiKeys(found)


class ApiKeys:
    """All keys in force, by their digests."""

    def __init__(self, entries: Iterable[tuple[bytes, str]] = ()) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKeys) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers, their names in lower case, shows a key in force.

        It takes the same time whichever key it is, or none: each digest is compared, in a time that does not depend on where it differs.
        """
        shown = _shown(headers)
        if shown is None:
            return False
        digest = _digest(shown)
        found = False
        for expected, _ in self._entries:
            found |= hmac.compare_digest(digest, expected)
        return found


def _shown(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """What `Authorization: Bearer` holds, or else `X-API-Key`. Of several headers of one name the first counts."""
    plain = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return credentials.strip()
        elif name == b"x-api-key" and plain is None:
            plain = value.strip()
    return plain


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
