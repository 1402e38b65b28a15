"""Finds the thread that held Python's lock while no other thread could look. Knows no event loop.

A thread in a call in C may hold the lock for as long as it likes. Afterwards it is the one whose processor clock has advanced. It gives
the lock up as it returns from the call, so its stack shows the call, or what came soon after.

Nothing here gives the lock up, as reading a file in Python would: a loop whose turn consists of such calls would get it each time, and
might end the turn before anything was seen of it.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
import time
from threading import Thread
from types import FrameType
from typing import NamedTuple


class LockHold(NamedTuple):
    """The thread that used the processor most in an interval, and for how long that kept another one from Python's lock, in seconds."""

    thread: Thread
    seconds: float


class Interval:
    """A time for which this thread is going to sleep. It sleeps for longer if it must wait for a processor, or for Python's lock.

    While it waits for a processor, other threads may use the lock in turn. While it waits for the lock, it wakes every few milliseconds to
    ask for it, and may wait for a processor each time. So how often it woke tells how long it waited for the lock. Only its first wait for
    a processor came before, which is taken to be as long as the others.

    Args:
        seconds: The time, or a time of the processor that the process is to use.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._used_s = _used_s()
        self._waited_s, self._runs = _schedule(threading.current_thread())

    def lock_hold(self) -> LockHold:
        """Returns the thread that kept this one from Python's lock. Must be called once this thread has slept."""
        this = threading.current_thread()
        waited, runs = _schedule(this)
        wakes = max(1, runs - self._runs)
        added = {thread: used - self._used_s.get(thread, 0.0) for thread, used in _used_s().items() if thread is not this}
        thread = max(added, key=added.__getitem__, default=this)
        before_s = self._seconds + (waited - self._waited_s) / wakes
        return LockHold(thread, min(added.get(thread, 0.0) - before_s, (wakes - 1) * sys.getswitchinterval()))


def waited_s(thread: Thread) -> float:
    """Returns the time for which a thread has been ready to run and had no processor; 0 if the kernel does not count it."""
    return _schedule(thread)[0]


def _schedule(thread: Thread) -> tuple[float, int]:
    """Returns the same time, and how often the thread has got a processor."""
    descriptor = _LIBC.open(f"/proc/self/task/{thread.native_id}/schedstat".encode(), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return 0.0, 0
    buffer = ctypes.create_string_buffer(_SCHEDSTAT_MAX_BYTES)
    length = _LIBC.read(descriptor, buffer, _SCHEDSTAT_MAX_BYTES)
    _LIBC.close(descriptor)
    fields = buffer.raw[: max(0, length)].split()
    return (int(fields[1]) / 1e9, int(fields[2])) if len(fields) == 3 else (0.0, 0)


def stack_of(thread: Thread) -> list[FrameType]:
    """Returns the stack of a thread, from its top to its bottom; empty if it has ended."""
    frames, frame = list[FrameType](), sys._current_frames().get(thread.ident or 0)  # noqa: SLF001 - this is what it is for
    while frame is not None:
        frames.append(frame)
        frame = frame.f_back
    return frames


def _used_s() -> dict[Thread, float]:
    """Returns the processor time of each thread that Python knows."""
    return {thread: used_s(thread) for thread in threading.enumerate()}


def used_s(thread: Thread) -> float:
    """Returns the processor time of a thread; 0 if it has just begun or ended."""
    try:
        return time.clock_gettime(~thread.native_id << 3 | _THREAD_CPU) if thread.native_id is not None else 0.0
    except OSError:
        return 0.0


_LIBC = ctypes.PyDLL(None)
"""Functions of the C library, which are called without giving Python's lock up. Files of /proc never block."""

_SCHEDSTAT_MAX_BYTES = 128

_THREAD_CPU = 6
"""The low bits of a clock that counts the processor time of one thread; the others are the complement of its id (see the kernel's
include/linux/posix-timers_types.h)."""
