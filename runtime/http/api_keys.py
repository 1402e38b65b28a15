"""API keys of prediction clients: made, stored as digests, and compared.

A key is 256 random bits. Nobody can guess it, and a plain SHA-256 does not reveal it. The slow, salted digest that passwords need would
cost each request milliseconds and protect nothing more.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from collections.abc import Iterable
from pathlib import Path

from base.errors import PexdockError

PREFIX = "pxd_"
"""Marks a key as one for people, and for programs that search published text for secrets."""

_LINE = re.compile(r"([0-9a-f]{64}) +([A-Za-z0-9._@-]{1,64})")
_NAME = re.compile(r"[A-Za-z0-9._@-]{1,64}")
_FILE_MAX_BYTES = 1024 * 1024


class BadKeys(PexdockError):
    """The file of API keys cannot be used."""

    code = "bad_keys"


def make_key(name: str) -> tuple[str, str]:
    """Returns a new key and its line for the file.

    Raises:
        BadKeys: The name is empty, longer than 64 characters, or has other characters than letters, digits and `._@-`.
    """
    if not _NAME.fullmatch(name):
        raise BadKeys(f"invalid name {name!r}: use 1 to 64 letters, digits, dots, dashes, underscores or @")
    key = PREFIX + secrets.token_urlsafe(32)
    return key, f"{_digest(key.encode()).hex()} {name}"


def read_keys(path: Path) -> ApiKeys:
    """Returns the keys in a file. Each line holds a digest and a name; a line that begins with `#` is a comment.

    Raises:
        BadKeys: The file cannot be read, or a line has another form.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_FILE_MAX_BYTES).decode()
    except OSError as exc:
        advice = f"correct the setting api_keys_path, or give user {os.geteuid()} access to the file"
        raise BadKeys(f"{path} cannot be read: {exc.strerror or exc}; {advice}") from exc
    except UnicodeDecodeError as exc:
        raise BadKeys(f"{path} cannot be read: {exc}") from exc
    entries = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            match = _LINE.fullmatch(line.rstrip())
            if match is None:  # the message does not show the line, which may be a key
                raise BadKeys(f"line {number} of {path} is invalid: expected 64 hex digits and a name, as `pexdock key` prints")
            entries.append((bytes.fromhex(match[1]), match[2]))
    return ApiKeys(entries)


class ApiKeys:
    """The API keys in force, stored as digests."""

    def __init__(self, entries: Iterable[tuple[bytes, str]] = ()) -> None:
        self._entries = tuple(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ApiKeys) and self._entries == other._entries

    def __hash__(self) -> int:
        return hash(self._entries)

    def admits(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns whether headers with names in lower case contain a valid key."""
        return self.client_of(headers) is not None

    def client_of(self, headers: Iterable[tuple[bytes, bytes]]) -> str | None:
        """Returns the name of the valid key in headers with names in lower case; None without one. Keys of one name are one client's.

        It takes the same time for every key: each digest is compared, and in constant time.
        """
        shown = _key_in(headers)
        if shown is None:
            return None
        digest = _digest(shown)
        client = None
        for expected, name in self._entries:
            if hmac.compare_digest(digest, expected):
                client = name
        return client


def _key_in(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Returns the key in `Authorization: Bearer`, or else in `X-API-Key`. A request has at most one of each; see `head_rules`."""
    api_key = None
    for name, value in headers:
        if name == b"authorization":
            scheme, _, credentials = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return credentials.strip()
        elif name == b"x-api-key":
            api_key = value.strip()
    return api_key


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()
