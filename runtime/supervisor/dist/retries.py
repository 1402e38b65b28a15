"""Which pexes are taken up again by themselves: those that were refused for want of room or descriptors, which is no fault of theirs."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from base.errors import PexRefused
from base.backoff import Backoff

_PASSING = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_PAUSES = Backoff(2.0, 60.0)
"""Each try may copy a large file, and nobody knows when there will be room."""


def is_transient(error: BaseException | None) -> bool:
    """Whether the machine is to blame, and not the file: this error, or one that it was raised from, is of the operating system's wants."""
    while error is not None and not (isinstance(error, OSError) and error.errno in _PASSING):
        error = error.__cause__
    return error is not None


class Retries:
    """When files of dist/ are taken up again.

    Args:
        again: takes up the file of this name, if it is still refused.
    """

    def __init__(self, again: Callable[[str], None]) -> None:
        self._again = again
        self._tries: dict[str, int] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def on_attempt_ended(self, name: str, error: BaseException | None) -> str:
        """A try with this file has ended: with this error, or well. Returns what is to be said of it, beside the error."""
        if timer := self._timers.pop(name, None):  # of what was there before
            timer.cancel()
        if not is_transient(error):
            self._tries.pop(name, None)
            return ""
        self._tries[name] = self._tries.get(name, 0) + 1
        delay_s = _PAUSES.delay_s(self._tries[name])
        self._timers[name] = asyncio.get_running_loop().call_later(delay_s, self._due, name)
        return f"; it is tried again in {delay_s:g} s"

    def _due(self, name: str) -> None:
        del self._timers[name]
        self._again(name)

    def close(self) -> None:
        """Nothing is taken up any more."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()


def failure_reason(error: Exception) -> str:
    """What is said of a file that ended in this error."""
    return error.detail if isinstance(error, PexRefused) else f"it cannot be prepared: {type(error).__name__}: {error}"
