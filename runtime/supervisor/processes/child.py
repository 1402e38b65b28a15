"""One child process: spawned, spoken to, listened to and reaped by the supervisor's event loop. Runs in the supervisor.

Nothing here blocks and nothing polls: output, control words and the exit (a pidfd) are descriptors of the loop. A child leads a
session of its own. So a terminal's Ctrl-C reaches the supervisor alone, which then ends its children in order; and what a
model started beside itself ends with it, as one process group.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from base.errors import PeerError
from base.ipc.control import ControlMessage, ControlStream, RoutingTable, encode_message
from runtime.supervisor.host.process_tree import reap_process_group
from runtime.supervisor.processes.log_tail import LogRateLimit, LogTail
from runtime.supervisor.processes.sandbox import User

log = logging.getLogger(__name__)

READ_BYTES = 64 * 1024
LAST_WORDS_MAX_BYTES = 1024 * 1024
"""Read at most this much after the exit. A pipe holds 64 KiB; only a process that escaped its group can go on writing."""

LOG_BURST_BYTES, LOG_BYTES_A_S = 4 * 1024 * 1024, 256 * 1024
"""Of one child. A model that prints a line for each row must not fill the disk."""

SILENT_S = 5.0
"""A child that closed its control socket is on its way out; one that is still there after this was not."""


def child_environment(parent: Mapping[str, str], additions: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child: `parent` without what steers Pexdock, pex or Python itself, and with `additions`.

    PYTHONDONTWRITEBYTECODE, PYTHONPATH or PEX_PATH of the shell that started the supervisor would change what a release is.
    """
    kept = {name: value for name, value in parent.items() if not name.startswith(("PEXDOCK_", "PEX", "PYTHON"))}
    return {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"} | kept | {"PYTHONUNBUFFERED": "1"} | dict(additions)


def describe_exit(code: int) -> str:
    """A return code of `subprocess` in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else f"signal {-code}"
    return f"was killed by {name}" + (" (the kernel sends it, too, when memory runs out)" if code == -signal.SIGKILL else "")


class Child:
    """One child process. `start` spawns it, `exited` is set once it is reaped and nothing of it is left."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        on_word: Callable[[ControlMessage], None],
        on_exit: Callable[[int], None],
        fds: Sequence[int] = (),
    ) -> None:
        """Nothing is started.

        Args:
            name: stands before its lines in the log.
            argv: the command; `--control-fd N` is appended.
            env: the whole environment.
            on_word: called with each control word, in order.
            on_exit: called once with the return code of `subprocess`, after the last word and the last line.
            fds: further descriptors to inherit, under their own numbers.
        """
        self.name = name
        self.tail = LogTail()
        self._budget = LogRateLimit(LOG_BURST_BYTES, LOG_BYTES_A_S)
        self._left_out = 0
        self.exited = asyncio.Event()
        self._argv = argv
        self._env = env
        self._fds = fds
        self.user: User | None = None  # whom it will run as; None for the user of this process
        self._on_word = on_word
        self._on_exit = on_exit
        self._lines = ControlStream()
        self._unsent: deque[ControlMessage] = deque()
        self._sending = memoryview(b"")
        self._timers: list[asyncio.TimerHandle] = []
        self._pidfd = -1

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    def start(self) -> None:
        """Spawn it. To be called on the main thread: a child may ask for a signal at its parent's death, and there a thread counts.

        Raises:
            OSError: it could not be spawned; nothing is left of it.
        """
        self._control, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [*self._argv, "--control-fd", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=dict(self._env),
                pass_fds=(theirs.fileno(), *self._fds),
                start_new_session=True,
                umask=0o077,
                user=self.user.uid if self.user else None,
                group=self.user.gid if self.user else None,
                extra_groups=self.user.groups if self.user else None,
            )
        except OSError:
            self._control.close()
            raise
        finally:
            theirs.close()
        try:
            self._pidfd = os.pidfd_open(self._process.pid)
        except OSError:
            self._give_up()
            raise
        self._listen()

    def _give_up(self) -> None:
        """There is no descriptor left by which its end could be seen."""
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._control.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        self._loop = asyncio.get_running_loop()
        self._output = self._process.stdout.fileno()
        os.set_blocking(self._output, False)
        self._control.setblocking(False)
        self._loop.add_reader(self._output, self._read_output)
        self._loop.add_reader(self._control.fileno(), self._read_control)
        self._loop.add_reader(self._pidfd, self._reap)

    def send(self, word: ControlMessage) -> None:
        """Queue a word. A table takes the place of one that has not left yet, so a child that does not read fills no memory."""
        if isinstance(word, RoutingTable):
            self._unsent = deque(waiting for waiting in self._unsent if not isinstance(waiting, RoutingTable))
        self._unsent.append(word)
        if self._pidfd >= 0:
            self._write_control()

    def terminate(self, grace_s: float) -> None:
        """SIGTERM to the child now; SIGKILL to its whole group if it is still there after `grace_s`."""
        if self._pidfd < 0:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        self._later(grace_s, self.kill)

    def kill(self) -> None:
        """SIGKILL to the whole group. Safe at any time: until it is reaped here nobody else can have its number."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill and reap at once, without callbacks; for ways out that are not orderly. Idempotent."""
        if self._pidfd >= 0:
            self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=SILENT_S)
            self._release()

    def _later(self, delay_s: float, call: Callable[[], None]) -> None:
        self._timers.append(self._loop.call_later(delay_s, call))

    def _write_control(self) -> None:
        try:
            while self._sending or self._unsent:
                self._sending = self._sending or memoryview(encode_message(self._unsent.popleft()))
                self._sending = self._sending[self._control.send(self._sending) :]
        except BlockingIOError:
            self._loop.add_writer(self._control.fileno(), self._write_control)
            return
        except OSError:  # it is gone; its exit is on the way
            self._unsent.clear()
            self._sending = memoryview(b"")
        self._loop.remove_writer(self._control.fileno())

    def _read_output(self) -> bool:
        """One read. False when nothing more is to be had now."""
        try:
            data = os.read(self._output, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._loop.remove_reader(self._output)
        self._log(self.tail.append(data))
        return bool(data)

    def _read_control(self) -> bool:
        """One read. False when nothing more is to be had now."""
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:  # reset: it died with words of ours unread
            data = b""
        if not data:
            self._loop.remove_reader(self._control.fileno())
            self._later(SILENT_S, self.kill)
        return bool(data) and self._take_words(data)

    def _take_words(self, data: bytes) -> bool:
        try:
            words = self._lines.feed_bytes(data)
        except PeerError as exc:
            log.warning("%s: %s; it is ended", self.name, exc)
            self._loop.remove_reader(self._control.fileno())
            self.terminate(SILENT_S)
            return False
        for word in words:
            self._on_word(word)
        return True

    def _reap(self) -> None:
        """The child has exited, but is not reaped, so its number and its group are still its own."""
        self._loop.remove_reader(self._pidfd)
        self.kill()
        while self._read_control():
            pass  # a `failed` may still lie in the socket
        for _ in range(LAST_WORDS_MAX_BYTES // READ_BYTES):
            if not self._read_output():
                break
        self._log(self.tail.finish())
        self._tell_left_out()
        code = self._process.wait()
        self._release()
        self._on_exit(code)

    def _release(self) -> None:
        for timer in self._timers:
            timer.cancel()
        for fd in (self._pidfd, self._output, self._control.fileno()):
            self._loop.remove_reader(fd)
        self._loop.remove_writer(self._control.fileno())
        os.close(self._pidfd)
        self._pidfd = -1
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._control.close()
        if os.getpid() == 1:  # orphans come to process 1, which has to reap them
            self._loop.call_later(SILENT_S, reap_process_group, self._process.pid)
        self.exited.set()

    def _log(self, lines: Sequence[str]) -> None:
        now_s = time.monotonic()
        for line in lines:
            if self._budget.allows(len(line), now_s):
                self._tell_left_out()
                log.info("%s: %s", self.name, line, extra={"source": self.name, "pid": self._process.pid, "said": line})
            else:
                self._left_out += 1

    def _tell_left_out(self) -> None:
        if self._left_out:
            log.warning("%s: %d lines are left out here, since it prints so much", self.name, self._left_out)
            self._left_out = 0
