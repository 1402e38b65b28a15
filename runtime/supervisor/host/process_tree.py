"""Reaps and kills the descendants of this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path

from base.process import adopt_orphans

_PAUSE_S = 0.2
"""Time between two searches for zombies in seconds. A model that leaves thousands of processes must not keep the supervisor busy."""

_SEEN_MAX = 500
"""Maximum number of processes that one search looks at, living ones too, which takes 10 ms; the next goes on."""


class ZombieReaper:
    """Makes this process the parent of all orphans among its descendants, and reaps them. As process 1 it is their parent anyway.

    Orphans are told from the children that this process waits for itself: those are either known, or still in the session of this process.

    Args:
        own_children: Returns the ids of the children that lead a session of their own, and are reaped elsewhere.
        notice_stops: Called when a child may have been stopped or continues, for which the kernel sends the same signal.
    """

    def __init__(self, own_children: Callable[[], Collection[int]], notice_stops: Callable[[], None]) -> None:
        self._own_children = own_children
        self._notice_stops = notice_stops
        self._planned: asyncio.TimerHandle | None = None
        self._unseen: list[int] = []
        self._again = False  # a process may have ended that was seen before

    def start(self) -> None:
        """Starts to reap, on the running event loop."""
        self._loop = loop = asyncio.get_running_loop()
        adopt_orphans()
        # uvloop keeps SIGCHLD for its own subprocesses, of which there are none; it calls handlers of Python in time.
        signal.signal(signal.SIGCHLD, lambda *_: loop.call_soon_threadsafe(self._on_signal))

    def stop(self) -> None:
        """Stops reaping. Idempotent."""
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._planned is not None:
            self._planned.cancel()

    def _on_signal(self) -> None:
        self._notice_stops()
        self._again = True
        self._plan()

    def _plan(self) -> None:
        if self._planned is None:
            self._planned = self._loop.call_later(_PAUSE_S, self._reap)

    def _reap(self) -> None:
        self._planned = None
        if not self._unseen:
            self._unseen, self._again = _children_of(os.getpid()), False
        seen, self._unseen = self._unseen[:_SEEN_MAX], self._unseen[_SEEN_MAX:]
        own, session = self._own_children(), os.getsid(0)
        for pid in seen:
            if pid not in own and _is_zombie_of_other_session(pid, session):
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        if self._unseen or self._again:
            self._plan()


def _is_zombie_of_other_session(pid: int, session: int) -> bool:
    try:
        state, _, _, its_session, *_ = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return False
    return state == b"Z" and int(its_session) != session


def kill_descendants() -> None:
    """Kills all descendants that this process has not reaped, such as a tool for which a thread waits."""
    found: list[int] = []
    waiting = _children_of(os.getpid())
    while waiting:
        # If a process is killed before its children are known, they go to process 1; if it runs on, it may start more of them.
        found.append(waiting.pop())
        _send_signal(found[-1], signal.SIGSTOP)
        waiting += _children_of(found[-1])
    for pid in found:
        _send_signal(pid, signal.SIGKILL)


def _send_signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def _children_of(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):  # the process has exited meanwhile
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (thread / "children").read_text().split())
    return found
