"""Loads values from files that operators may replace while Pexdock runs, and reloads them when the files change."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from base.errors import PexdockError
from runtime.blocking import BlockingThreads

log = logging.getLogger(__name__)

T = TypeVar("T")

_CONTENT_MAX_BYTES = 4 * 1024 * 1024
"""Number of bytes of a file that are compared. API keys and certificates are far smaller; a file such as /dev/zero never ends."""


class FileReloader(Generic[T]):
    """Loads a value from files, and reloads it when they have changed. Logs a failure and keeps the last value.

    Args:
        what: Name of the value in log messages, such as "API keys".
        paths: The files, which need not exist yet.
        load: Loads the value; raises PexdockError, OSError or ValueError if the files cannot be used.
        on_failure: Consequence of a failure, for the log.

    Attributes:
        value: The last value that was loaded; None before the first.
        failed: Whether the present files could not be used.
    """

    def __init__(self, what: str, paths: Sequence[Path], load: Callable[[], T], on_failure: str) -> None:
        self._what = what
        self.paths = paths
        self._load = load
        self._on_failure = on_failure
        self._disk = BlockingThreads(1, ", ".join(map(str, paths)))
        self._fingerprint: bytes | None = None
        self._logged = ""
        self.value: T | None = None
        self.failed = False

    def load(self) -> T:
        """Loads the value and returns it. Blocks.

        Raises:
            PexdockError, OSError, ValueError: The files cannot be used.
        """
        self._fingerprint = fingerprint(self.paths)
        self.value = value = self._load()
        return value

    async def reload_if_changed(self) -> bool:
        """Loads the value, on a thread, if the files have changed since the last attempt. Returns whether there is a new value."""
        return await self._disk.run(self._reload_if_changed)

    def _reload_if_changed(self) -> bool:
        found = fingerprint(self.paths)
        if found == self._fingerprint:
            return False
        self._fingerprint = found
        try:
            self.value = self._load()
        except (PexdockError, OSError, ValueError) as exc:  # perhaps only one of two files has been replaced yet
            self.failed = True
            self._log_once(f"cannot load the {self._what}: {exc}; {self._on_failure}")
            return False
        self.failed, self._logged = False, ""
        log.info("loaded the %s", self._what)
        return True

    def _log_once(self, message: str) -> None:
        if message != self._logged:
            self._logged = message
            log.error(message)


def fingerprint(paths: Sequence[Path]) -> bytes:
    """Returns a digest that changes with the content, mode or owner of any of these files, and when one appears or disappears."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                content = file.read(_CONTENT_MAX_BYTES)
            found = path.stat()
            part = f"{found.st_mode} {found.st_uid} ".encode() + content
        except OSError as exc:
            part = f"error {exc.errno}".encode()
        digest.update(hashlib.sha256(part).digest())
    return digest.digest()
