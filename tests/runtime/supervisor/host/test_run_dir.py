"""The run directory and its lock."""

import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.supervisor.host import run_dir
from runtime.supervisor.host.run_dir import RunDirTaken
from runtime.supervisor.status.state import State
from runtime.supervisor.status.state_file import write_state

HOLD = """
import sys, time
from pathlib import Path
from runtime.supervisor.host import run_dir
with run_dir.lock_run_dir(Path(sys.argv[1])):
    print("here", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that has taken the run directory."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "run")], stdout=subprocess.PIPE)
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_a_run_directory_is_private_and_removed_at_the_end(tmp_path):
    """It may contain sockets and state."""
    path = tmp_path / "deep" / "run"
    with run_dir.lock_run_dir(path):
        assert mode(path) == 0o700
        assert run_dir.find_supervisor_pid(path) == os.getpid()
        (path / "w1.sock").touch()
        write_state(path, State(dist_path="d"))
    assert not path.exists()
    assert run_dir.find_supervisor_pid(path) is None


def test_a_second_supervisor_is_refused_with_the_pid_of_the_first(tmp_path, other):
    """`find_supervisor_pid` returns the same pid."""
    assert run_dir.find_supervisor_pid(tmp_path / "run") == other.pid
    with pytest.raises(RunDirTaken, match=rf"another supervisor \(pid {other.pid}\) runs on .*run"), run_dir.lock_run_dir(tmp_path / "run"):
        pass
    assert run_dir.find_supervisor_pid(tmp_path / "run") == other.pid


def test_asking_for_the_pid_never_prevents_a_start(tmp_path):
    """This is so at any rate of calls, and at the very moment of the start."""
    path, over = tmp_path / "run", threading.Event()

    def keep_asking():
        while not over.is_set():
            run_dir.find_supervisor_pid(path)

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for each in askers:
        each.start()
    try:
        for _ in range(100):
            with run_dir.lock_run_dir(path):
                assert run_dir.find_supervisor_pid(path) == os.getpid()
    finally:
        over.set()
        for each in askers:
            each.join()


def test_of_many_supervisors_that_start_at_once_one_gets_it(tmp_path):
    """The others are refused at once, as long as the first one runs."""
    refused = threading.Semaphore(0)

    def start(_):
        try:
            with run_dir.lock_run_dir(tmp_path / "run"):
                assert all(refused.acquire(timeout=10) for _ in range(7))
        except RunDirTaken:
            refused.release()
            return "refused"
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(start, range(8))) == ["refused"] * 7 + ["taken"]


def test_leftovers_of_a_killed_supervisor_are_taken_over(tmp_path, other):
    """The kernel has released the lock; the files are still there."""
    path = tmp_path / "run"
    (path / "w7.sock").touch()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert run_dir.find_supervisor_pid(path) is None
    with run_dir.lock_run_dir(path):
        assert [file.name for file in path.iterdir()] == ["lock"]


def test_other_files_in_a_run_directory_stay(tmp_path):
    """A folder may be named by mistake."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    (path / "diary.txt").write_text("dear")
    with run_dir.lock_run_dir(path):
        pass
    assert [file.name for file in path.iterdir()] == ["diary.txt"]


@pytest.mark.parametrize("way", ["open", "link", "file"])
def test_a_folder_that_others_could_write_to_is_refused(tmp_path, way):
    """They could put a socket of their own in place of a worker's."""
    path = tmp_path / "run"
    match way:
        case "open":
            path.mkdir()
            path.chmod(0o755)
        case "link":
            (tmp_path / "real").mkdir(mode=0o700)
            path.symlink_to("real")
        case "file":
            path.touch()
    with pytest.raises(RunDirTaken, match="--run-path"), run_dir.lock_run_dir(path):
        pass


@pytest.mark.parametrize("current_folder_is_gone", [False, True])
def test_a_folder_that_cannot_be_made_ends_the_start_with_a_message(tmp_path, monkeypatch, current_folder_is_gone):
    """It is not tried for ever: the message has the path and the setting."""
    path = Path("/proc/nope")
    if current_folder_is_gone:
        monkeypatch.chdir(tmp_path)
        tmp_path.rmdir()
        path = Path("run")
    with pytest.raises(RunDirTaken, match=f"cannot use {path}: No such file or directory; .*--run-path"), run_dir.lock_run_dir(path):
        pass


@pytest.mark.parametrize("removed", ["directory", "lock file"])
def test_a_removed_run_directory_is_made_and_locked_again(tmp_path, removed):
    """Then it is still taken, and is removed at the end."""
    path = tmp_path / "run"
    with run_dir.lock_run_dir(path) as own:
        assert not own.restore()
        (path / "lock").unlink()
        if removed == "directory":
            path.rmdir()
        assert not own.is_present
        assert own.restore()
        assert own.is_present
        assert mode(path) == 0o700
        assert run_dir.find_supervisor_pid(path) == os.getpid()
    assert not path.exists()


def test_a_run_directory_that_another_supervisor_has_made_is_left_to_it(tmp_path):
    """Neither `restore` nor the end of the first supervisor touches it."""
    path = tmp_path / "run"
    with run_dir.lock_run_dir(path) as first:
        (path / "lock").unlink()
        path.rmdir()
        with run_dir.lock_run_dir(path) as second:
            with pytest.raises(RunDirTaken, match="another supervisor"):
                first.restore()
            first.close()
            first._lock = os.open(os.devnull, os.O_RDONLY)  # for the end of the outer block
            assert second.is_present
