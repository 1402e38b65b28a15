"""Spawns child processes from a thread whose table of descriptors has no file in it.

A new process closes what it inherits before its program runs, and its parent waits for that. Closing a file may wait for a file server:
FUSE asks it each time, and NFS sends what is not written yet. So a lock or a log on a server that hangs would stop this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import gc
import os
import queue
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence

_CLOSE_RANGE_UNSHARE = 2
_FD_MAX = 2**32 - 1
_RECEIVED_MAX = 253
"""Linux sends no more descriptors in one message."""

MakeProcess = Callable[[], "subprocess.Popen[bytes]"]


class Spawner:
    """A thread that spawns processes. It never ends: a child may request a signal at its parent's death, and the parent is a thread."""

    def __init__(self) -> None:
        self._ours, self._theirs = socket.socketpair()  # both stay open here, so that no other descriptor has their numbers
        self._calls: queue.SimpleQueue[tuple[MakeProcess, Sequence[int]]] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[subprocess.Popen[bytes] | BaseException] = queue.SimpleQueue()
        self._started = threading.Event()
        self.is_isolated = False
        threading.Thread(target=self._work, name="spawner", daemon=True).start()
        self._started.wait()

    def spawn(self, make: MakeProcess, fds: Sequence[int]) -> subprocess.Popen[bytes]:
        """Returns the process that `make` starts where only these descriptors are open, under their own numbers. Raises its error.

        It must not make a pipe. Where the kernel does not support a table of its own (before Linux 5.9), all descriptors are open.
        """
        if not self.is_isolated:
            return make()
        socket.send_fds(self._ours, [b"\0"], list(fds))
        with _without_garbage_collection():
            self._calls.put((make, fds))
            outcome = self._outcomes.get()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _work(self) -> None:
        # Python's handler of a signal writes to a descriptor. If this thread got one, it would have none of that number.
        inherited = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self.is_isolated = self._leave_files()
        self._started.set()
        while self.is_isolated:
            _, received, _, _ = socket.recv_fds(self._theirs, 1, _RECEIVED_MAX)
            make, fds = self._calls.get()
            try:
                with _numbered(received, fds), _signal_mask(inherited):
                    process = make()
                self._outcomes.put(process)
            except BaseException as exc:  # noqa: BLE001 - it is raised again by `spawn`
                self._outcomes.put(exc)

    def _leave_files(self) -> bool:
        """Gives this thread a table with its socket and three times /dev/null. Returns False if the kernel or the C library cannot."""
        close_range = getattr(ctypes.CDLL(None), "close_range", None)
        kept = self._theirs.fileno()
        if close_range is None or close_range(kept + 1, ctypes.c_uint(_FD_MAX), _CLOSE_RANGE_UNSHARE) != 0:
            return False
        os.closerange(3, kept)
        null = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(null, standard)
        os.close(null)
        return True


@functools.cache
def spawner() -> Spawner:
    """Returns the spawner of this process. The first call starts it, which must be before any disk hangs."""
    return Spawner()


@contextlib.contextmanager
def _numbered(received: Sequence[int], fds: Sequence[int]) -> Iterator[None]:
    """Gives descriptors these numbers until the end of the block, and then closes them."""
    opened = list(received)
    try:
        for number, fd in enumerate(received):  # out of the way first
            opened[number] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, max(fds) + 1)
            os.close(fd)
        for number, fd in enumerate(fds):
            above = opened[number]
            opened[number] = os.dup2(above, fd, inheritable=False)
            os.close(above)
        yield
    finally:
        for fd in opened:
            os.close(fd)


@contextlib.contextmanager
def _signal_mask(mask: Iterable[int]) -> Iterator[None]:
    """Gives this thread, and the processes that it spawns, a mask of blocked signals until the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Prevents the spawner's thread from finalizing an object with a descriptor, which has another meaning in its table."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
