"""Servers as processes: starts them in sessions of their own, measures them with all their descendants, and stops them completely."""

from __future__ import annotations

import ctypes
import http.client
import os
import signal
import socket
import subprocess
import time
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

START_S = 120
"""Time to start: the first start of Pexdock unpacks and compiles base, and Ray starts eight processes."""

END_S = 20

PR_SET_CHILD_SUBREAPER = 36

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CPU_FIELDS = slice(11, 15)
"""Fields utime, stime, cutime, cstime after the command in /proc/<pid>/stat; see proc(5)."""


class ServerFailed(Exception):
    """A server does not start, does not answer, or answers wrongly. The message contains the end of its log."""


def adopt() -> None:
    """Makes this process adopt orphans of its descendants, so that `descendants` finds and `ended` stops all of them."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextmanager
def started(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Starts a process in a session of its own, so that Ctrl-C reaches only this one, and in a folder of its own with its log."""
    others = descendants(os.getpid())
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        keep_nice(process.pid)
        yield process
    finally:
        end(process, others)


def keep_nice(pid: int) -> None:
    """Gives the session of `pid` the nice value of this process, which counts where sessions are scheduled as groups."""
    with suppress(FileNotFoundError, ProcessLookupError):
        Path(f"/proc/{pid}/autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


def run_apart(command: Sequence[str], folder: Path) -> tuple[str, str]:
    """Runs a command to its end like `started`, and returns its output and its errors."""
    with subprocess.Popen(
        command, cwd=folder, start_new_session=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            keep_nice(process.pid)
            return process.communicate()
        except BaseException:
            process.kill()
            raise


def end(process: subprocess.Popen[bytes], others: Sequence[int] = ()) -> None:
    """Stops a process with SIGTERM, then its descendants and orphans, except the `others`, with SIGKILL."""
    family = descendants(process.pid)
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    deadline = time.monotonic() + END_S
    while left := [pid for pid in {*family, *descendants(os.getpid())}.difference(others) if alive(pid)]:
        if time.monotonic() > deadline:
            raise ServerFailed(f"processes {left} do not exit")
        for pid in left:
            _kill(pid)
        time.sleep(0.05)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def alive(pid: int) -> bool:
    """Returns whether a process runs, or waits to be reaped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state[0] != "Z" or int(state[1]) == os.getpid()


def descendants(pid: int) -> list[int]:
    """Returns all descendants of a process."""
    children = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [member for child in children for member in (int(child), *descendants(int(child)))]


def cpu_s(pids: Sequence[int]) -> float:
    """Returns the CPU time of processes and of the children that they have reaped, in steps of one tick, mostly 10 ms."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[CPU_FIELDS]))
    return ticks / TICKS_PER_S


def running_s(pid: int) -> float:
    """Returns the CPU time of all living threads in nanoseconds; see schedstat in the kernel's documentation."""
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def machine_s() -> float:
    """Returns the CPU time of all processes of the machine, and the time stolen by its host, without interrupts."""
    user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + steal) / TICKS_PER_S


def pss_bytes(pids: Sequence[int]) -> int:
    """Returns the proportional set size: private pages, and each shared page divided by its users."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total


def switches(pid: int) -> int:
    """Returns the voluntary context switches of all threads: how often the process was woken."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("voluntary"))
    return total


def name(pid: int) -> str:
    """Returns the Python module that a process runs, else the name of its program."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    modules = {"runtime": "supervisor", "runtime.front": "front door", "runtime.job_runner": "job runner", "base": "worker"}
    return next((role for module, role in modules.items() if module in words), Path(words[0]).name)


def wait_for(url: str, body: bytes | None, process: subprocess.Popen[bytes], folder: Path, seconds: float = START_S) -> None:
    """Sends requests until one is answered with 200: GET without a body, POST with one.

    Raises:
        ServerFailed: The time is over, or the process has exited.
    """
    deadline = time.monotonic() + seconds
    while (answer := request(url, body))[0] != 200:
        if process.poll() is not None:
            raise ServerFailed(f"it exited with {process.returncode}:\n{last_words(folder)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"no answer 200 after {seconds:.0f} s, but {answer[0]} {answer[1][:300]!r}:\n{last_words(folder)}")
        time.sleep(0.05)


def last_words(folder: Path) -> str:
    """Returns the end of the log."""
    return (folder / "log").read_text(errors="replace")[-2000:]


def request(url: str, body: bytes | None, content_type: str = "application/json") -> tuple[int, bytes]:
    """Sends a request on a new connection. Status 0 means no answer, with the reason as the body."""
    parsed = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parsed.netloc, timeout=30)
    try:
        connection.request("GET" if body is None else "POST", parsed.path, body, {"Content-Type": content_type})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException) as exc:
        return 0, str(exc).encode()
    finally:
        connection.close()


def free_port() -> int:
    """Returns a free TCP port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
