"""Watches an event loop for turns that take too long, and finds what took the time. Knows no metrics; the owner of the loop records them.

A thread sleeps until the process has used some processor time, so an idle process is never woken. Then it asks the loop for a callback. As
long as that does not come, it looks at the stack of the loop's thread: what is at its bottom each time is one turn. The loop itself pays
for nothing but the callback. A turn that blocks without using the processor is found only if the thread looks while it lasts.
"""

from __future__ import annotations

import asyncio
import ctypes
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import CodeType, FrameType

from base.log import get_logger

log = get_logger(__name__)

TURN_WARN_VARIABLE = "PEXDOCK_LOOP_TURN_WARN_MS"
"""Variable in the environment of a worker: the setting `loop_turn_warn_ms` of its supervisor. Workers of an older base ignore it."""

_CPU_STEP_S = 0.02
"""Processor time of the process between two callbacks, in seconds. Each takes about 50 µs."""

_LOOK_S = 0.01
"""Time between two looks at the stack, in seconds."""

_LOCK_S = 0.005
"""Time that a thread may wait for Python's lock although no call in C holds it, in seconds."""

_LOG_INTERVAL_S = 60.0
"""Least time between two lines in the log, in seconds."""

_FRAMES_MAX = 12

_PROCESS_CPU = 2
"""CLOCK_PROCESS_CPUTIME_ID of clock_nanosleep(2)."""

_RUNNERS = (asyncio.Runner.run.__code__, asyncio.BaseEventLoop.run_forever.__code__)
"""Functions that run a loop: uvloop has no frame between the first and a callback, and a loop of asyncio has the second."""

_HANDLE_RUN = asyncio.Handle._run.__code__  # noqa: SLF001
"""The function by which a loop of asyncio runs one callback. It is called by the function that runs one iteration."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Turn:
    """A turn that was seen at least once.

    Attributes:
        root: The frame at its bottom.
        began_s: A time at which it had begun.
        waited_s: Time that the threads had waited for a processor until then.
        seconds: Its length so far, without the time that the threads waited for a processor.
        where: The stack that best tells what took the time.
        advice: What to do about it.
    """

    def __init__(self, root: FrameType, began_s: float, waited_s: float) -> None:
        self.root = root
        self.began_s = began_s
        self.waited_s = waited_s
        self.seconds = 0.0
        self.where = self.advice = ""
        self._stack: Sequence[CodeType] = ()
        self._times: defaultdict[CodeType, float] = defaultdict(float)

    def add_time(self, stack: Sequence[CodeType], seconds: float) -> None:
        """Sets the length so far. What was added belongs to the functions on this stack."""
        for function in set(stack):
            self._times[function] += seconds - self.seconds
        self.seconds = seconds

    def explains_better(self, stack: Sequence[CodeType]) -> bool:
        """Returns whether a stack tells at least as well what took the time as the one for which this returned True last.

        It does if it leads at least as deep into functions that took half of the time. What runs at the end of a turn may have just begun.
        """
        if self._depth(stack) < self._depth(self._stack):
            return False
        self._stack = stack
        return True

    def _depth(self, stack: Sequence[CodeType]) -> int:
        return sum(2 * self._times[function] >= self.seconds for function in stack)


class LoopWatchdog:
    """Watches the event loop of one process, from `start` to `stop`.

    Args:
        name: Name of the loop in the log.
        warn_ms: Length of a turn from which it is logged and reported; 0 disables the watchdog.
        on_slow: Called in the loop with the length of each such turn in milliseconds.
        advise: Called on a thread with the functions on the stack of a turn, the innermost first. Returns what the log says about it in
            addition; None if this part of the turn does not count.
    """

    def __init__(
        self,
        name: str,
        warn_ms: float,
        on_slow: Callable[[float], None],
        advise: Callable[[Sequence[CodeType]], str | None] = lambda _: "",
    ) -> None:
        self._name = name
        self._warn_ms = warn_ms
        self._on_slow = on_slow
        self._advise = advise
        self._stopping = False
        self._logged_s = -_LOG_INTERVAL_S

    def start(self) -> None:
        """Starts to watch the loop that runs this."""
        if not self._warn_ms:
            return
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._loop_cpu = time.pthread_getcpuclockid(self._loop_thread)
        self._loop_task = _schedule_of_this_thread()
        self._runner = _runner_frame()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._stopping = True

    def _watch(self) -> None:
        task = _schedule_of_this_thread()
        sleep = ctypes.CDLL(None).clock_nanosleep
        step = _Timespec(0, int(_CPU_STEP_S * 1e9))
        while True:
            used_s, waited_s = time.clock_gettime(self._loop_cpu), _waited_s(task)
            if sleep(_PROCESS_CPU, 0, ctypes.byref(step), None):
                return  # this kernel cannot do it
            if self._stopping:
                return
            # If the loop has used more than a step, a call in C holds Python's lock, or this thread has waited for a processor.
            held_s = time.clock_gettime(self._loop_cpu) - used_s - _CPU_STEP_S - (_waited_s(task) - waited_s)
            if not self._probe(held_s, task):
                return

    def _probe(self, held_s: float, task: Path) -> bool:
        """Watches the loop until it runs a callback. Returns False if it is closed.

        Args:
            held_s: Time for which this thread has just waited for Python's lock.
            task: Schedule of this thread.
        """
        passed = threading.Event()
        try:
            self._loop.call_soon_threadsafe(passed.set)
        except RuntimeError:
            return False
        turn = self._look(None, held_s)
        while True:
            before_s, waited_s = time.monotonic(), _waited_s(task)
            if passed.wait(_LOOK_S) or self._stopping:
                break
            late_s = time.monotonic() - before_s - _LOOK_S
            turn = self._look(turn, late_s - (_waited_s(task) - waited_s))
        self._end(turn)
        return True

    def _look(self, turn: _Turn | None, held_s: float) -> _Turn | None:
        """Looks at the stack, and returns the turn that is at its bottom."""
        frames = self._turn_frames()
        stack = [frame.f_code for frame in frames]
        advice = self._advise(stack) if stack else None
        if advice is None:
            self._end(turn)
            return None
        root = frames[-1]
        now_s, waited_s = time.monotonic(), _waited_s(self._loop_task)
        if turn is None or turn.root is not root:
            self._end(turn)
            turn = _Turn(root, now_s - (held_s if held_s > _LOCK_S else 0.0), waited_s)
        turn.add_time(stack, now_s - turn.began_s - (waited_s - turn.waited_s))
        if turn.seconds * 1000 >= self._warn_ms / 2 and turn.explains_better(stack):
            turn.where, turn.advice = _describe(frames), advice
        return turn

    def _turn_frames(self) -> list[FrameType]:
        """Returns the stack of the present turn, from its top to its bottom; empty if the loop waits or has ended."""
        frames, frame = list[FrameType](), sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - this is what it is for
        while frame is not None and frame is not self._runner:
            frames.append(frame)
            frame = frame.f_back
        if frame is None:
            return []
        if frame.f_code is asyncio.Runner.run.__code__:
            return frames
        frames = frames[:-1]  # without the iteration, which runs several callbacks
        return frames if frames and frames[-1].f_code is _HANDLE_RUN else []

    def _end(self, turn: _Turn | None) -> None:
        if turn is None or turn.seconds * 1000 < self._warn_ms:
            return
        milliseconds = turn.seconds * 1000
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning("the event loop of %s was blocked for %.0f ms by %s%s", self._name, milliseconds, turn.where, turn.advice)
        try:
            self._loop.call_soon_threadsafe(self._on_slow, milliseconds)
        except RuntimeError:
            pass  # the loop is closed


def _schedule_of_this_thread() -> Path:
    return Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")


def _waited_s(schedule: Path) -> float:
    """Returns the time for which a thread has been ready to run and had no processor; 0 if the kernel does not count it."""
    try:
        return int(schedule.read_bytes().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def _runner_frame() -> FrameType | None:
    """Returns the frame that runs the loop: the first one below this that belongs to no callback."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001
    while frame is not None and frame.f_code not in _RUNNERS:
        frame = frame.f_back
    return frame


def _describe(frames: Sequence[FrameType]) -> str:
    """Returns a stack without values."""
    functions = list[str]()
    for frame in frames[:_FRAMES_MAX]:
        path = Path(frame.f_code.co_filename)
        functions.append(f"{frame.f_code.co_qualname} ({'/'.join(path.parts[-3:])}:{frame.f_lineno})")
    return ", called by ".join(functions)
