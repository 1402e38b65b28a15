"""Parents that are killed while their children start and do not read a control socket yet: no process is left."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from supervisor_harness import Supervised, runs
from tinypex import write_linked_base, write_tiny
from waiting import DEADLINE_S, until

PROMISED_S = 10.0
"""Longer than the promised 2 s, since a test machine may be busy. What they are importing lasts 600 s."""

PARENT = """
import socket, subprocess, sys, time
ours, theirs = socket.socketpair()
listener = socket.create_server(("127.0.0.1", 0))
fds = theirs.fileno(), listener.fileno()
command = [word.format(listener=fds[1]) for word in sys.argv[1:]]
print(subprocess.Popen([*command, "--control-fd", str(fds[0])], pass_fds=fds).pid, flush=True)
time.sleep(600)
"""
"""Starts a child as a supervisor does, and tells its number."""

CHILDREN = {
    "worker": (["-m", "base", "--socket", "/nowhere/w.sock"], "polars"),
    "front door": (["-P", "-m", "runtime.front", "--listen-fd", "{listener}"], "uvloop"),
}
"""What each is started with, and a module that it imports."""


def sleeper(marker: Path) -> str:
    """Returns a module whose import takes long, and that reports when it has begun."""
    return f"import os, time\nopen({str(marker)!r}, 'w').write(str(os.getpid()))\ntime.sleep(600)\n"


def descendants(pid: int) -> list[int]:
    """Returns all processes that it has started, directly or indirectly."""
    children = [int(each) for path in Path(f"/proc/{pid}/task").glob("*/children") for each in path.read_text().split()]
    return [each for child in children for each in (child, *descendants(child))]


def until_gone(pids: list[int], seconds: float = DEADLINE_S) -> None:
    """Waits until none of them runs."""
    until(lambda: not any(map(runs, pids)), "they run on", seconds)


@contextmanager
def parent(folder: Path, command: list[str]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Starts a parent and its child, which imports modules of the folder before any other."""
    path = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-c", PARENT, *command]
    with subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()


@pytest.mark.parametrize("imported", ["base", "the model"])
def test_a_starting_worker_ends_with_a_killed_supervisor(tmp_path: Path, imported: str) -> None:
    """It does so whatever it is importing; and so does everything else."""
    marker = tmp_path / "marker"
    supervised = Supervised(tmp_path)
    if imported == "base":
        write_linked_base(supervised.dist / "base.pex", more={"polars.py": sleeper(marker)})
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=sleeper(marker) if imported == "the model" else "")
    supervised.start()
    try:
        until(marker.exists)
        started = descendants(supervised.process.pid)
        assert len(started) == 2, "a front door and a worker"
    finally:
        supervised.process.kill()
        supervised.process.wait()
    until_gone(started, PROMISED_S)
    shutil.rmtree(supervised.run_path)  # as the next one would


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_whose_parent_is_killed_during_its_imports_ends(tmp_path: Path, child: str) -> None:
    words, module = CHILDREN[child]
    marker = tmp_path / "marker"
    (tmp_path / f"{module}.py").write_text(sleeper(marker))
    with parent(tmp_path, [sys.executable, *words]) as (process, pid):
        until(marker.exists)
        process.kill()
        process.wait()
        until_gone([pid], PROMISED_S)


@pytest.mark.parametrize("child", CHILDREN)
def test_a_child_whose_parent_was_gone_before_imports_nothing(tmp_path: Path, child: str) -> None:
    """The kernel would not notify it any more, since another process has adopted it."""
    words, module = CHILDREN[child]
    gate, marker = tmp_path / "gate", tmp_path / "marker"
    (tmp_path / f"{module}.py").write_text(sleeper(marker))
    os.mkfifo(gate)
    held = ["sh", "-c", f'read _ < {gate}; exec "$@"', "sh", sys.executable, *words]
    with parent(tmp_path, held) as (process, pid):
        process.kill()
        process.wait()
        gate.write_text("go\n")
        until_gone([pid])
    assert not marker.exists()
