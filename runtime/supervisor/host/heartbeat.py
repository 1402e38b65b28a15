"""Finds out whether the event loop of a child process still runs, without waking a process that is idle. Runs in the supervisor."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

_AWAKE_S = 0.1
"""Time in seconds after an answer in which the process goes back to sleep, so that the answer does not count as activity."""

_GRACE_S = 0.5
"""Further time for the answer in seconds, in case this process was itself stopped, and the answer waits to be read."""


class Heartbeat:
    """Asks a process for an answer every `timeout_s`, but only if it has run since its last answer.

    A process that has not run cannot have begun to hang. So while nothing happens, only this process wakes, to read two files of /proc.

    Args:
        pid: The process.
        timeout_s: Interval, and time limit for an answer, in seconds.
        ask: Sends the question.
        on_silent: Called once if no answer has come in time.
    """

    def __init__(self, pid: int, timeout_s: float, ask: Callable[[], None], on_silent: Callable[[], None]) -> None:
        self._pid = pid
        self._timeout_s = timeout_s
        self._ask = ask
        self._on_silent = on_silent
        self._loop = asyncio.get_running_loop()
        self._waiting = False
        self._activity: tuple[str, ...] = ()
        self._timer = self._loop.call_later(timeout_s, self._check)
        self._settling: asyncio.TimerHandle | None = None

    def on_answer(self) -> None:
        """Handles the answer."""
        self._waiting = False
        self._settling = self._loop.call_later(_AWAKE_S, self._remember_activity)

    def stop(self) -> None:
        """Stops asking. Idempotent."""
        self._timer.cancel()
        if self._settling is not None:
            self._settling.cancel()

    def _check(self) -> None:
        if self._waiting:
            self._timer = self._loop.call_later(_GRACE_S, self._confirm)
            return
        if read_activity(self._pid) != self._activity:
            self._waiting = True
            self._ask()
        self._timer = self._loop.call_later(self._timeout_s, self._check)

    def _confirm(self) -> None:
        if self._waiting:
            self._on_silent()
        else:
            self._timer = self._loop.call_later(self._timeout_s, self._check)

    def _remember_activity(self) -> None:
        self._activity = read_activity(self._pid)


def read_activity(pid: int) -> tuple[str, ...]:
    """Returns the CPU time and the context switches of a process's main thread, which change whenever it runs; empty if it is gone."""
    with contextlib.suppress(OSError):
        times = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        status = Path(f"/proc/{pid}/task/{pid}/status").read_text().splitlines()
        return (*times, *(line for line in status if "ctxt_switches" in line))
    return ()
