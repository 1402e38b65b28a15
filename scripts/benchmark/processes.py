"""Servers as processes: started apart from the terminal, asked over HTTP, weighed with all their descendants, and ended without a rest."""

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
"""The first start of Pexdock on a machine unpacks and compiles base, and Ray starts eight processes."""

END_S = 20

PR_SET_CHILD_SUBREAPER = 36

TICKS_PER_S = os.sysconf("SC_CLK_TCK")

CPU_FIELDS = slice(11, 15)
"""utime, stime, cutime, cstime in what follows the command in /proc/<pid>/stat; see proc(5)."""


class ServerFailed(Exception):
    """A server does not start, does not answer, or answers wrongly. What it logged last stands in the message."""


def adopt() -> None:
    """Makes orphans of this process' descendants its own children, so that none can hide from `descendants` or outlive `ended`."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


@contextmanager
def started(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C reaches only this one, and in its own folder, where its log lies too."""
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
    """Gives the session of `pid` the nice value of this process: where sessions are scheduled as groups, their own one does not count."""
    with suppress(FileNotFoundError, ProcessLookupError):
        Path(f"/proc/{pid}/autogroup").write_text(str(os.getpriority(os.PRIO_PROCESS, 0)))


def run_apart(command: Sequence[str], folder: Path) -> tuple[str, str]:
    """Runs a command to its end as `started` does. Returns what it printed, and its errors."""
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
    """SIGTERM, and SIGKILL for whatever is left of it: its descendants, and orphans that are ours now and none of the `others`."""
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
            raise ServerFailed(f"processes {left} do not end")
        for pid in left:
            _kill(pid)
        time.sleep(0.05)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def alive(pid: int) -> bool:
    """Whether it runs, or waits to be reaped by us."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state[0] != "Z" or int(state[1]) == os.getpid()


def descendants(pid: int) -> list[int]:
    """All processes that descend from this one, without it."""
    children = []
    with suppress(FileNotFoundError, ProcessLookupError):
        children = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split()
    return [member for child in children for member in (int(child), *descendants(int(child)))]


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time that these processes and the children that they have waited for have used so far. In steps of one tick, mostly 10 ms."""
    ticks = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[CPU_FIELDS]))
    return ticks / TICKS_PER_S


def running_s(pid: int) -> float:
    """CPU time of all living threads so far, to the nanosecond; see schedstat in the kernel's documentation."""
    paths = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(path.read_text().split()[0]) for path in paths) / 1e9


def machine_s() -> float:
    """CPU time that all processes of the machine have used so far, and what its host took away; interrupts belong to nobody."""
    user, nice, system, _, _, _, _, steal = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + steal) / TICKS_PER_S


def pss_bytes(pids: Sequence[int]) -> int:
    """Proportional set size: private pages, and each shared page divided by its users."""
    total = 0
    for pid in pids:
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            total += next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)
    return total


def switches(pid: int) -> int:
    """Voluntary context switches of all threads so far: how often the process has gone to sleep, and so has been woken."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += next(int(line.split()[1]) for line in path.read_text().splitlines() if line.startswith("voluntary"))
    return total


def name(pid: int) -> str:
    """What the process is: the Python module that it runs, or else its program's name."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    modules = {"runtime": "supervisor", "runtime.front": "front door", "base": "worker"}
    return next((role for module, role in modules.items() if module in words), Path(words[0]).name)


def wait_for(url: str, body: bytes | None, process: subprocess.Popen[bytes], folder: Path, seconds: float = START_S) -> None:
    """Asks until the answer is 200: GET without a body, POST with one.

    Raises:
        ServerFailed: the time is over, or the process has ended.
    """
    deadline = time.monotonic() + seconds
    while (answer := request(url, body))[0] != 200:
        if process.poll() is not None:
            raise ServerFailed(f"it ended with {process.returncode}:\n{last_words(folder)}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"no answer 200 after {seconds:.0f} s, but {answer[0]} {answer[1][:300]!r}:\n{last_words(folder)}")
        time.sleep(0.05)


def last_words(folder: Path) -> str:
    """The end of its log."""
    return (folder / "log").read_text(errors="replace")[-2000:]


def request(url: str, body: bytes | None, content_type: str = "application/json") -> tuple[int, bytes]:
    """One request on a connection of its own. Status 0 says that nobody answered, and why."""
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
    """A TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
