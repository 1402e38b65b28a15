"""Makes the processes that a model forks plain ones: default signal handlers, and no descriptor of Pexdock.

A library such as multiprocessing ends its children by SIGTERM, and expects that no other process knows of them. What Pexdock sets for its
own process must not reach them. Processes that are started by exec get nothing anyway: Pexdock ignores no signal in a process that runs a
model, and all descriptors are closed on exec.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from typing import Any, NoReturn

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, Any], Any] | int | signal.Handlers | None
"""A signal handler, as `signal.signal` returns it."""

_masks = threading.local()
"""Holds the signal mask of a thread while it forks."""


class ProcessHandler:
    """A signal handler for one process. A child that is forked from it gets the handler back that was in place before.

    Args:
        handle: Called on the main thread when the signal arrives.
        before: The handler of children; None for the default.
    """

    def __init__(self, handle: Callable[[], object], before: Handler) -> None:
        self.before = signal.SIG_DFL if before is None else before
        self._handle = handle

    def __call__(self, *_: object) -> None:
        """Handles the signal."""
        self._handle()


def handle_signal(number: signal.Signals, handle: Callable[[], object]) -> Handler:
    """Handles SIGINT, SIGTERM or SIGHUP in this process, but not in its forked children. Returns the handler that was in place before."""
    before = signal.getsignal(number)
    signal.signal(number, ProcessHandler(handle, before))
    return before


def ignore_stop_signals() -> None:
    """Ignores SIGINT, SIGTERM and SIGHUP in this process, which only its parent stops, but not in its forked children. Idempotent.

    A service manager may send the signal that stops a service to each of its processes, while their clients still wait for responses.
    Programs that this process starts would inherit SIG_IGN.
    """
    for number in _HANDLED:
        if not isinstance(signal.getsignal(number), ProcessHandler):
            handle_signal(number, lambda: None)
            signal.siginterrupt(number, False)


def call_in_forked_child(method: Callable[[], object]) -> None:
    """Calls a bound method in each child that is forked while its object exists. The method must not wait for a lock."""
    _register(method, "after_in_child")


def call_after_fork(method: Callable[[], object]) -> None:
    """Calls a bound method in this process after each fork while its object exists."""
    _register(method, "after_in_parent")


class OwnProcess:
    """The process in which this object was made."""

    def __init__(self) -> None:
        self._pid = os.getpid()

    def end_if_forked(self, error: BaseException | None = None) -> None:
        """Ends this process if it is a forked child of the own one: a model's code came back to Pexdock in it, perhaps with an error."""
        if os.getpid() != self._pid:
            exit_forked_child(error)


def exit_forked_child(error: BaseException | None = None) -> NoReturn:
    """Ends a forked child with the exit code that a plain program would have."""
    code = 0
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    elif error is not None:
        traceback.print_exception(error)
        code = 1
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


def _register(method: Callable[[], object], when: str) -> None:
    # There is no way to take a hook back, so it holds no more than a weak reference.
    reference = weakref.WeakMethod(method)

    def call() -> None:
        bound = reference()
        if bound is not None:
            bound()

    os.register_at_fork(**{when: call})


def _block_signals() -> None:
    """Delays signals during a fork.

    Otherwise: the parent forks and sends SIGTERM, the child still has the parent's handler, and a child forgets what the handler noted.
    """
    handled = [number for number in _HANDLED if isinstance(signal.getsignal(number), ProcessHandler)]
    _masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, handled)


def _unblock_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _masks.before)


def _restore_signals() -> None:
    for number in _HANDLED:
        handler = signal.getsignal(number)
        if isinstance(handler, ProcessHandler):
            signal.signal(number, handler.before)
            signal.set_wakeup_fd(-1)  # else the loop of the parent would be told about the signals of its child
    _unblock_signals()


os.register_at_fork(before=_block_signals, after_in_parent=_unblock_signals, after_in_child=_restore_signals)
