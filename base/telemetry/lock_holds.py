"""Finds the thread that held Python's lock while no other thread could look. Knows no event loop.

A thread in a call in C may hold the lock for as long as it likes. Afterwards it is the one whose processor clock has advanced. It gives
the lock up as it returns from the call, so its stack shows the call, or what came soon after.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import NamedTuple


class LockHold(NamedTuple):
    """The thread that used the processor most in an interval, and for how much longer than the interval was to last, in seconds."""

    thread: Thread
    seconds: float


class Interval:
    """A time for which this thread is going to sleep. It sleeps for longer if it must wait for Python's lock.

    A thread that waits for the lock wakes again and again, and may wait for a processor each time. Only the first of these waits is no wait
    for the lock. It is taken to be as long as the others.

    Args:
        seconds: The time, or a time of the processor that the process is to use.
        threads: This thread, and others whose waits for a processor do not count.
    """

    def __init__(self, seconds: float, *threads: Thread) -> None:
        self._seconds = seconds
        self._schedules = [(thread, *_schedule(thread)) for thread in threads]
        self._used_s = _used_s()

    def lock_hold(self) -> LockHold:
        """Returns the thread that kept this one from Python's lock. Must be called once this thread has slept."""
        none = threading.current_thread()
        added = {thread: used_s - self._used_s.get(thread, 0.0) for thread, used_s in _used_s().items()}
        thread = max((each for each in added if each is not none), key=added.__getitem__, default=none)
        seconds = added.get(thread, 0.0) - self._seconds
        for waiting, before_s, runs in self._schedules:
            after_s, runs_after = _schedule(waiting)
            seconds -= (after_s - before_s) / max(1, runs_after - runs)
        return LockHold(thread, seconds)


def waited_s(thread: Thread) -> float:
    """Returns the time for which a thread has been ready to run and had no processor; 0 if the kernel does not count it."""
    return _schedule(thread)[0]


def _schedule(thread: Thread) -> tuple[float, int]:
    """Returns the same time, and how often the thread has got a processor."""
    try:
        _, waited_ns, runs = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_bytes().split()
        return int(waited_ns) / 1e9, int(runs)
    except (OSError, ValueError):
        return 0.0, 0


def stack_of(thread: Thread) -> list[FrameType]:
    """Returns the stack of a thread, from its top to its bottom; empty if it has ended."""
    frames, frame = list[FrameType](), sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - this is what it is for
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _used_s() -> dict[Thread, float]:
    """Returns the processor time of each thread that Python knows."""
    found = {}
    for thread in threading.enumerate():
        if thread.native_id is not None:
            try:
                found[thread] = time.clock_gettime(~thread.native_id << 3 | _THREAD_CPU)
            except OSError:
                continue  # it has just ended, so pthread_getcpuclockid(3) could crash
    return found


_THREAD_CPU = 6
"""The low bits of a clock that counts the processor time of one thread; the others are the complement of its id (see the kernel's
include/linux/posix-timers_types.h)."""
