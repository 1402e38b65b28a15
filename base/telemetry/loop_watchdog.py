"""Watches an event loop for turns that take too long, and finds what took the time. Knows no metrics; the owner of the loop records them.

A thread sleeps until the process has used some processor time, so an idle process is never woken. Then it asks the loop for a callback. As
long as that does not come, it looks at the stack of the loop's thread: what is at its bottom each time is one turn. The loop itself pays
for nothing but the callback. A turn that blocks without using the processor is found only if the thread looks while it lasts.

A call in C that holds Python's lock on another thread blocks the loop as well. The watchdog cannot run either then, but afterwards it knows
how long it waited for the lock, and who had it; see `base.telemetry.lock_holds`. A loop that is none of asyncio is not asked for callbacks:
one of its turns ends when the stack has another bottom.
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
from typing import NamedTuple

from base.log import get_logger
from base.telemetry.lock_holds import Interval, LockHold, stack_of, used_s, waited_s

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

_HOLDER_FRAMES_MAX = 6

_PROCESS_CPU = 2
"""CLOCK_PROCESS_CPUTIME_ID of clock_nanosleep(2)."""

_RUNNERS = (asyncio.Runner.run.__code__, asyncio.BaseEventLoop.run_forever.__code__)
"""Functions that run a loop: uvloop has no frame between the first and a callback, and a loop of asyncio has the second."""

_HANDLE_RUN = asyncio.Handle._run.__code__  # noqa: SLF001
"""The function by which a loop of asyncio runs one callback. It is called by the function that runs one iteration."""


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Clocks(NamedTuple):
    """A time, the processor time that the loop's thread had used until then, and what threads had waited for a processor."""

    now_s: float
    used_s: float
    waited_s: float


class _Turn:
    """A turn that was seen at least once.

    Attributes:
        root: The frame at its bottom.
        began: The clocks at a time when it had begun.
        seen: The clocks when it was last seen.
        seconds: Its length so far.
        where: The stack that best tells what took the time.
        advice: What to do about it.
    """

    def __init__(self, root: FrameType, began: _Clocks) -> None:
        self.root = root
        self.began = self.seen = began
        self.seconds = 0.0
        self.where = self.advice = ""
        self._stack: Sequence[CodeType] = ()
        self._times: defaultdict[CodeType, float] = defaultdict(float)

    def length_s(self, waited_s: float) -> float:
        """Returns its length when it was last seen: the time without what is known by now of waits for a processor.

        These are also the watchdog's own, since it may have the lock then. The processor time of the loop's thread counts in any case.
        """
        used_s, passed_s = self.seen.used_s - self.began.used_s, self.seen.now_s - self.began.now_s
        return max(used_s, passed_s - (waited_s - self.began.waited_s))

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
        advise: Called on a thread with the functions on the stack of a turn, or of a thread that held Python's lock, the innermost first.
            Returns what the log says about it in addition; None if this part of the turn does not count.
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

    def start(self, runner: FrameType | None = None) -> None:
        """Starts to watch the loop that runs this.

        Args:
            runner: The frame of a loop that is none of asyncio: all that it calls at a time is one turn.
        """
        if not self._warn_ms:
            return
        self._loop = asyncio.get_running_loop() if runner is None else None
        self._thread = threading.current_thread()
        self._runner = runner or _runner_frame()
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Stops watching."""
        self._stopping = True

    def _watch(self) -> None:
        sleep = ctypes.CDLL(None).clock_nanosleep
        step = _Timespec(0, int(_CPU_STEP_S * 1e9))
        while True:
            interval = Interval(_CPU_STEP_S)
            if sleep(_PROCESS_CPU, 0, ctypes.byref(step), None):
                return  # this kernel cannot do it
            if self._stopping or not self._probe(interval.lock_hold()):
                return

    def _probe(self, hold: LockHold) -> bool:
        """Watches the loop until it runs a callback, or until no turn that counts is in progress. Returns False if the loop is closed.

        Args:
            hold: What has just kept this thread from Python's lock.
        """
        passed = threading.Event()
        turn = self._look(None, hold)  # before anything else, which may give Python's lock to the loop
        if not self._call_in_loop(passed.set):
            return False
        while self._loop is not None or turn is not None:
            interval = Interval(_LOOK_S)
            passed.wait(_LOOK_S)
            if passed.is_set() or self._stopping:  # perhaps since its end, while this thread waited for the lock
                break
            turn = self._look(turn, interval.lock_hold())
        self._end(turn)
        return True

    def _call_in_loop(self, call: Callable[[], None]) -> bool:
        """Calls a function in the loop, if that is one of asyncio. Returns False if it is closed."""
        try:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(call)
        except RuntimeError:
            return False
        return True

    def _look(self, turn: _Turn | None, hold: LockHold) -> _Turn | None:
        """Looks at the stack, and returns the turn that is at its bottom."""
        frames = self._turn_frames()
        stack = [frame.f_code for frame in frames]
        advice = self._advise(stack)
        held_s = hold.seconds if hold.seconds > _LOCK_S else 0.0
        if held_s and hold.thread is not self._thread:
            if advice is not None and held_s * 1000 >= self._warn_ms:
                self._report_hold(hold, frames)
            if turn is not None:
                turn.began = turn.began._replace(now_s=turn.began.now_s + held_s)
            held_s = 0.0
        if advice is None or not frames:
            self._end(turn)
            return None
        root = frames[-1]
        clocks = _Clocks(time.monotonic(), used_s(self._thread), self._waited_s())
        if turn is None or turn.root is not root:
            self._end(turn)
            turn = _Turn(root, clocks._replace(now_s=clocks.now_s - held_s, used_s=clocks.used_s - held_s))
        turn.seen = clocks
        turn.add_time(stack, turn.length_s(clocks.waited_s))
        if turn.seconds * 1000 >= self._warn_ms / 2 and turn.explains_better(stack):
            turn.where, turn.advice = _describe(frames), advice
        return turn

    def _turn_frames(self) -> list[FrameType]:
        """Returns the stack of the present turn, from its top to its bottom; empty if the loop waits or has ended."""
        frames = stack_of(self._thread)
        if self._runner not in frames:
            return []
        below = frames.index(self._runner)
        frame, frames = frames[below], frames[:below]
        if self._loop is None or frame.f_code is asyncio.Runner.run.__code__:
            return frames
        frames = frames[:-1]  # without the iteration, which runs several callbacks
        return frames if frames and frames[-1].f_code is _HANDLE_RUN else []

    def _end(self, turn: _Turn | None) -> None:
        if turn is not None:
            # The kernel counts a wait for a processor once it is over. It may not have been when the turn was last seen, and is now.
            self._report(turn.length_s(self._waited_s()), f"{turn.where}{turn.advice}")

    def _waited_s(self) -> float:
        return waited_s(self._thread) + waited_s(threading.current_thread())

    def _report_hold(self, hold: LockHold, frames: Sequence[FrameType]) -> None:
        """Reports the call of another thread for which the loop had to wait, whether it had anything to do or not."""
        stack = stack_of(hold.thread)
        meanwhile = f"at {_describe(frames)}" if frames else "between two turns"
        where = f"the thread {hold.thread.name}, which held Python's lock in {_describe(stack[:_HOLDER_FRAMES_MAX])}"
        self._report(hold.seconds, f"{where}{self._advise([frame.f_code for frame in stack]) or ''}; the loop was {meanwhile}")

    def _report(self, seconds: float, what: str) -> None:
        milliseconds = seconds * 1000
        if milliseconds < self._warn_ms:
            return
        now_s = time.monotonic()
        if now_s - self._logged_s >= _LOG_INTERVAL_S:
            self._logged_s = now_s
            log.warning("the event loop of %s was blocked for %.0f ms by %s", self._name, milliseconds, what)
        if self._loop is None:
            self._on_slow(milliseconds)
        else:
            self._call_in_loop(lambda: self._on_slow(milliseconds))


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
