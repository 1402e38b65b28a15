"""Processes that live and do not answer: the supervisor notices, shows and replaces them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from operated_supervisor import Operated
from tinypex import times, write_tiny

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000


@pytest.fixture(scope="module")
def operated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operated]:
    operated = Operated(tmp_path_factory.mktemp("unresponsive"), front_doors=2, unresponsive_s=3, restart_delay_min_s=0.05)
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with operated:
        yield operated


def front_door(operated: Operated) -> dict:
    """Returns the report of the second front door."""
    return operated.state()["front_doors"][1]


def until_replaced(operated: Operated, pid: int) -> None:
    operated.until(lambda: front_door(operated)["pid"] not in {pid, None} and front_door(operated)["state"] == "serving")
    operated.until(operated.is_ready)
    assert operated.predictions("/tiny") == [6]


def freeze(pid: int) -> None:
    """Keeps a process from running, as a loop that hangs does: unlike a stop, the kernel does not report it to the parent."""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    for request in (PTRACE_SEIZE, PTRACE_INTERRUPT):
        if ptrace(request, pid, None, None) != 0:
            pytest.skip(f"NOT TESTED: this user may not trace processes: {os.strerror(ctypes.get_errno())}")


def test_a_front_door_that_is_stopped_is_replaced(operated: Operated) -> None:
    """The other front door serves meanwhile."""
    pid = front_door(operated)["pid"]
    os.kill(pid, signal.SIGSTOP)
    until_replaced(operated, pid)
    log = operated.err.read_text()
    assert f"front door 2 (pid {pid}) is stopped, and is replaced unless it continues within 3 s" in log
    assert "front door 2 was stopped (SIGSTOP) for 3 s (unresponsive_s); restarting in" in log
    assert front_door(operated)["restarts"] == 1


def test_a_front_door_that_is_stopped_is_shown_and_kept_if_it_continues(tmp_path: Path) -> None:
    """It may be stopped for longer here than this can take."""
    operated = Operated(tmp_path, front_doors=2, unresponsive_s=600)
    write_tiny(operated.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    with operated:
        pid = front_door(operated)["pid"]
        os.kill(pid, signal.SIGSTOP)
        operated.until(lambda: front_door(operated)["state"] == "stopped")
        assert f"front door 2 (pid {pid}) is stopped\n" in operated.run("models").stdout
        os.kill(pid, signal.SIGCONT)
        operated.until(lambda: front_door(operated)["state"] == "serving")
        operated.until(lambda: f"front door 2 (pid {pid}) continues" in operated.err.read_text())
        assert front_door(operated)["pid"] == pid
        assert front_door(operated)["restarts"] == 0


def test_a_front_door_that_does_not_answer_is_replaced(operated: Operated) -> None:
    """Its event loop hangs, so it does not answer the question that the supervisor asks after activity."""
    pid = front_door(operated)["pid"]
    freeze(pid)
    while not os.WIFSIGNALED(os.waitpid(pid, WALL)[1]):  # whoever traces a process learns of its end before its parent does
        pass
    until_replaced(operated, pid)
    assert "front door 2 has not answered for 3 s (unresponsive_s); restarting in" in operated.err.read_text()


def test_an_idle_worker_that_is_stopped_is_replaced(operated: Operated) -> None:
    """Otherwise only the next request would notice, and wait for it."""
    (pid,) = operated.release("tiny.pex")["worker_pids"]
    os.kill(pid, signal.SIGSTOP)
    operated.until(lambda: operated.release("tiny.pex")["worker_pids"] not in ([], [pid]))
    operated.until(lambda: operated.predictions("/tiny") == [6])
    assert "its worker was stopped (SIGSTOP) for 3 s (unresponsive_s)" in operated.release("tiny.pex")["reason"]
    assert not Path(f"/proc/{pid}").exists()
