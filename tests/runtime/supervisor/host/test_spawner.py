"""The thread that spawns processes, and what they inherit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from runtime.supervisor.host.spawner import Spawner


def test_no_file_of_this_process_is_open_where_processes_are_spawned(tmp_path: Path) -> None:
    """Closing one could wait for its file server. One file is opened before the thread starts, and one after."""
    others = set(threading.enumerate())
    with (tmp_path / "early").open("w"):
        spawner = Spawner()
        (thread,) = set(threading.enumerate()) - others
        with (tmp_path / "late").open("w"), (tmp_path / "out").open("w") as out:
            table = Path(f"/proc/self/task/{thread.native_id}/fd")
            before = sorted(str(each.readlink()) for each in table.iterdir())
            said = spawner.spawn(
                lambda: subprocess.Popen(["readlink", f"/proc/self/fd/{out.fileno()}"], stdout=out.fileno()), [out.fileno()]
            )
            assert said.wait(60) == 1  # a descriptor must also be passed on
            child = spawner.spawn(lambda: subprocess.Popen(["ls", "/proc/self/fd"], stdout=out.fileno()), [out.fileno()])
            assert child.wait(60) == 0
            after = sorted(str(each.readlink()) for each in table.iterdir())
    assert spawner.is_isolated
    assert [each.split(":")[0] for each in before] == [os.devnull] * 3 + ["socket"]
    assert after == before
    assert (tmp_path / "out").read_text().split() == ["0", "1", "2", "3"]  # the last is the folder that is listed


def test_descriptors_keep_their_numbers_whatever_they_are() -> None:
    """Some of them are those under which the thread receives others."""
    spawner = Spawner()
    pipes = [os.pipe() for _ in range(4)]
    ends = [pipe[1] for pipe in pipes]
    write = "import os; [os.write(fd, b'%d' % fd) for fd in FDS]".replace("FDS", str(ends))
    child = spawner.spawn(lambda: subprocess.Popen([sys.executable, "-c", write], pass_fds=ends), ends[::-1])
    assert child.wait(60) == 0
    for read_fd, write_fd in pipes:
        os.close(write_fd)
        assert os.read(read_fd, 100) == str(write_fd).encode()
        os.close(read_fd)


def test_an_error_is_raised_and_the_next_process_starts() -> None:
    spawner = Spawner()
    with open(os.devnull) as null:  # noqa: PTH123 - a device
        with pytest.raises(FileNotFoundError):
            spawner.spawn(lambda: subprocess.Popen(["/nowhere/program"]), [null.fileno()])
        assert spawner.spawn(lambda: subprocess.Popen(["true"]), [null.fileno()]).wait(60) == 0


def test_the_thread_gets_no_signal_and_its_processes_block_none() -> None:
    """A handler in the thread could not wake the event loop, which waits for a byte."""
    others = set(threading.enumerate())
    spawner = Spawner()
    (thread,) = set(threading.enumerate()) - others
    with open(os.devnull) as null:  # noqa: PTH123 - a device
        child = spawner.spawn(lambda: subprocess.Popen(["sleep", "60"]), [null.fileno()])
    blocked = [_blocked_signals(f"/proc/self/task/{thread.native_id}"), _blocked_signals(f"/proc/{child.pid}")]
    child.terminate()
    assert child.wait(60) == -signal.SIGTERM
    assert [signal.SIGCHLD in each and signal.SIGTERM in each for each in blocked] == [True, False]
    assert blocked[1] == signal.pthread_sigmask(signal.SIG_BLOCK, [])


def _blocked_signals(process: str) -> set[int]:
    mask = next(int(line.split()[1], 16) for line in Path(process, "status").read_text().splitlines() if line.startswith("SigBlk:"))
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
