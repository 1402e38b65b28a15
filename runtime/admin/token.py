"""The token of the admin side, which lies in a file that its user alone can read."""

from __future__ import annotations

import hmac
import logging
import os
import stat
from pathlib import Path

from base.errors import PexdockError

log = logging.getLogger(__name__)

TOKEN_MIN_CHARS = 20
_TOKEN_MAX_BYTES = 4096
_MAKE = "make one: (umask 077; openssl rand -hex 32 > {path})"


class BadToken(PexdockError):
    """The token's file is not there, can be read by others, or holds no token. Nobody is let in by it."""

    code = "bad_token"


def read_token(path: Path) -> str:
    """The token in a file.

    Raises:
        BadToken: see there.
    """
    try:
        with path.open("rb") as file:
            found = os.fstat(file.fileno())
            text = file.read(_TOKEN_MAX_BYTES).decode("ascii", errors="replace").strip()
    except OSError as exc:
        raise BadToken(f"the token {path} cannot be read: {exc.strerror}; {_MAKE.format(path=path)}") from exc
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077 or found.st_uid not in {0, os.geteuid()}:
        raise BadToken(f"the token {path} is open to others: it must be a file of this user, `chmod 600 {path}`")
    if len(text) < TOKEN_MIN_CHARS or not text.isprintable() or " " in text:
        raise BadToken(f"{path} holds no token: {TOKEN_MIN_CHARS} characters or more, and no space; {_MAKE.format(path=path)}")
    return text


class Token:
    """The token in force. The file is read again when it has changed; while it holds none, nobody is let in."""

    def __init__(self, path: Path) -> None:
        """Raises BadToken: what is there at the start must do."""
        self._path = path
        self._seen = _mark(path)
        self._token: str | None = read_token(path)

    def matches(self, given: str) -> bool:
        """Whether this is it. The time that it takes tells nothing."""
        self._look()
        return self._token is not None and hmac.compare_digest(given.encode(), self._token.encode())

    def _look(self) -> None:
        seen = _mark(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            self._token = read_token(self._path)
            log.info("the admin side has a new token")
        except BadToken as exc:
            self._token = None
            log.error("nobody can ask the admin side over TCP: %s", exc.detail)  # noqa: TRY400 - the reason says it all


def _mark(path: Path) -> tuple[int, ...]:
    """What is another one once the file is another one."""
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode
