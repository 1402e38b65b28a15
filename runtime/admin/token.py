"""The token of the admin API, in a file that only its owner can read."""

from __future__ import annotations

import hmac
import os
import stat
from functools import partial
from pathlib import Path

from base.errors import PexdockError
from runtime.file_reload import FileReloader

TOKEN_MIN_CHARS = 20
_TOKEN_MAX_BYTES = 4096
_ADVICE = "create one with (umask 077; openssl rand -hex 32 > {path})"


class BadToken(PexdockError):
    """The token file is missing, readable by others, or does not hold a token. No request is admitted."""

    code = "bad_token"


def read_token(path: Path) -> str:
    """Returns the token in a file.

    Raises:
        BadToken: The file cannot be used.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_TOKEN_MAX_BYTES).decode("ascii", errors="replace").strip()
    except OSError as exc:
        raise BadToken(f"cannot read the token file {path}: {exc.strerror}; {_ADVICE.format(path=path)}") from exc
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in {0, os.geteuid()}:
        raise BadToken(f"the token file {path} must be a regular file of this user that others cannot read: run `chmod 600 {path}`")
    if len(text) < TOKEN_MIN_CHARS or not text.isprintable() or " " in text:
        advice = _ADVICE.format(path=path)
        raise BadToken(f"{path} must hold a token of at least {TOKEN_MIN_CHARS} characters without spaces; {advice}")
    return text


class Token:
    """The token in force. The file is read again when it has changed; while it holds no token, no request is admitted.

    Raises:
        BadToken: The file cannot be used at the start.
    """

    def __init__(self, path: Path) -> None:
        self._file = FileReloader("admin API's token", [path], partial(read_token, path), "all requests over TCP are rejected")
        self._file.load()

    async def matches(self, given: str) -> bool:
        """Returns whether `given` is the token, in constant time."""
        await self._file.reload_if_changed()
        token = self._file.value
        return token is not None and not self._file.failed and hmac.compare_digest(given.encode(), token.encode())
