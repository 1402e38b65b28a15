"""Retries pexes that could not be prepared for lack of disk space, memory, descriptors or permissions, which is not the fault of the files."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from pathlib import Path

from base.backoff import Backoff
from base.errors import PexRefused
from runtime.path_errors import explain_os_error

_TRANSIENT_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_CACHE_ERRNOS = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST})
"""Errors that are explained, and retried, if they concern the cache. A file of dist/ that cannot be read is read again once it changes."""

_BACKOFF = Backoff(2.0, 60.0)
"""Delays between attempts. Each may copy a large file, and it is not known when there will be space."""


def is_transient(error: BaseException | None, cache_path: Path) -> bool:
    """Returns whether this error, or one of its causes, lies with the machine or with the cache folder, and not with the file."""
    while error is not None and not (isinstance(error, OSError) and (error.errno in _TRANSIENT_ERRNOS or _is_of_cache(error, cache_path))):
        error = error.__cause__
    return error is not None


def _is_of_cache(error: OSError, cache_path: Path) -> bool:
    return error.errno in _CACHE_ERRNOS and error.filename is not None and Path(os.fsdecode(error.filename)).is_relative_to(cache_path)


class Retries:
    """Schedules further attempts to prepare files of dist/.

    Args:
        cache_path: The cache folder.
        retry: Prepares the file of this name again if it is still refused.
    """

    def __init__(self, cache_path: Path, retry: Callable[[str], None]) -> None:
        self._cache_path = cache_path
        self._retry = retry
        self._attempts: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def on_attempt_ended(self, name: str, error: BaseException | None) -> str:
        """Handles the end of an attempt, which has failed with this error or succeeded. Returns a text to add to the error message."""
        if timer := self._timers.pop(name, None):  # the timer of a file that had this name before
            timer.cancel()
        if not is_transient(error, self._cache_path):
            self._attempts.pop(name, None)
            return ""
        self._attempts[name] = self._attempts.get(name, 0) + 1
        delay_s = _BACKOFF.delay_s(self._attempts[name])
        self._timers[name] = asyncio.get_running_loop().call_later(delay_s, self._on_due, name)
        return f"; retrying in {delay_s:g} s"

    def attempts(self, name: str) -> int:
        """Returns the number of attempts in a row that have failed for a file."""
        return self._attempts.get(name, 0)

    def close(self) -> None:
        """Cancels all retries."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _on_due(self, name: str) -> None:
        del self._timers[name]
        self._retry(name)


def failure_reason(error: Exception, cache_path: Path) -> str:
    """Returns the reason why a file could not be prepared, for people."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and _is_of_cache(cause, cache_path):
            return f"it cannot be unpacked: {explain_os_error(cause, {'cache_path': cache_path})}"
        cause = cause.__cause__
    return error.detail if isinstance(error, PexRefused) else f"it cannot be prepared: {type(error).__name__}: {error}"
