"""Detects what outlives a test: processes that it started, memory segments, and socket files.

Processes are recognized by a mark in their environment, which children inherit, so orphans are found too, whatever their parent is.
"""

from __future__ import annotations

import gc
import os
import signal
import stat
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

GONE_WITHIN_S = 30
"""A process that is still importing ends when it has; on a busy machine that takes a while."""
SOCKETS_DEPTH = 4
"""Sockets lie near the top of a run directory; deeper lie unpacked pexes with thousands of files."""

MARK = "PYTEST_LEAK_MARK"


def mark_this_process() -> None:
    """Marks this process, so that its children are told apart from those of other pytest processes."""
    os.environ[MARK] = uuid.uuid4().hex


@contextmanager
def none_in(folder: Path) -> Iterator[None]:
    """Asserts that nothing made in the block is left after it, within some seconds.

    Raises:
        AssertionError: Names what is left; left processes were killed.
    """
    processes, rest = _processes(), _memfds() | _socket_files(folder)
    yield
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := _new_processes(processes) | (_memfds() | _socket_files(folder)) - rest:
        gc.collect()  # a frame in a cycle may hold a mapping
        if time.monotonic() > deadline:
            names = sorted(f"process {what}: {_command(what)}" if isinstance(what, int) else what for what in left)
            _kill(left)
            raise AssertionError("left behind: " + ", ".join(names))
        time.sleep(0.02)


def _processes() -> set[int]:
    """Returns the living processes with our mark; a dead one that nobody reaped has no environment."""
    mark = f"{MARK}={os.environ[MARK]}".encode()
    return {int(path.name) for path in Path("/proc").glob("[0-9]*") if mark in _read(path / "environ").split(b"\0")} - {os.getpid()}


def _new_processes(before: set[int]) -> set[int]:
    """Returns those that are neither in `before` nor descend from it: a supervisor of a wider fixture may restart workers at any time."""
    return {pid for pid in _processes() - before if not before & set(_ancestors(pid))}


def _ancestors(pid: int) -> Iterator[int]:
    while stats := _read(Path(f"/proc/{pid}/stat")):
        pid = int(stats.rpartition(b")")[2].split()[1])
        yield pid


def _memfds() -> set[str]:
    """Returns the segments that this process holds open or mapped, by name and inode."""
    mapped = {
        f"segment {line.split(maxsplit=5)[5]} {line.split()[4]}"
        for line in Path("/proc/self/maps").read_text().splitlines()
        if "memfd:" in line
    }
    return mapped | {f"segment {target}" for target in map(_link, Path("/proc/self/fd").iterdir()) if "memfd:" in target}


def _socket_files(folder: Path, depth: int = SOCKETS_DEPTH) -> set[str]:
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return set()
    found = {f"socket {entry.path}" for entry in entries if stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)}
    deeper = [entry.path for entry in entries if depth and entry.is_dir(follow_symlinks=False)]
    return found.union(*(_socket_files(Path(path), depth - 1) for path in deeper))


def _kill(left: set[int | str]) -> None:
    for pid in left:
        if isinstance(pid, int):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it went by itself meanwhile


def _command(pid: int) -> str:
    return _read(Path(f"/proc/{pid}/cmdline")).replace(b"\0", b" ").decode(errors="replace").strip()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it died while we looked, or belongs to another user
        return b""


def _link(path: Path) -> str:
    try:
        return f"{path.readlink()} {path.stat().st_ino}"
    except OSError:  # the descriptor of the listing itself
        return ""
