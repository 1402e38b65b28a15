"""What a supervisor says of itself: the run directory and its lock, the state file, what people read of it."""

import json
import os
import signal
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from base.errors import PexdockError
from base.ipc.control import EndpointSpec, Example, ReleaseSpec, Route
from runtime.cli.views import release_table
from runtime.supervisor import status, survey
from runtime.supervisor.banner import announce
from runtime.supervisor.host import run_dir
from runtime.supervisor.host.run_dir import RunDirTaken
from runtime.supervisor.status import ReleaseReport, State
from tinypex import write_linked_base, write_tiny

HOLD = """
import sys, time
from pathlib import Path
from runtime.supervisor.host import run_dir
with run_dir.taken(Path(sys.argv[1])):
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


def test_a_run_directory_is_private_and_goes_when_it_is_left(tmp_path):
    """Also with sockets and state in it."""
    path = tmp_path / "deep" / "run"
    with run_dir.taken(path):
        assert mode(path) == 0o700
        assert run_dir.holder(path) == os.getpid()
        (path / "w1.sock").touch()
        status.write(path, State(dist_path="d"))
    assert not path.exists()
    assert run_dir.holder(path) is None


def test_the_second_to_take_it_is_refused_with_the_pid_of_the_first(tmp_path, other):
    """And whoever only asks gets the same pid."""
    assert run_dir.holder(tmp_path / "run") == other.pid
    with pytest.raises(RunDirTaken, match=rf"runs already on .*run \(pid {other.pid}\)"), run_dir.taken(tmp_path / "run"):
        pass
    assert run_dir.holder(tmp_path / "run") == other.pid


def test_who_merely_asks_holds_up_no_start(tmp_path):
    """However often, and in the very moment of the start."""
    path, over = tmp_path / "run", threading.Event()

    def keep_asking():
        while not over.is_set():
            run_dir.holder(path)

    askers = [threading.Thread(target=keep_asking) for _ in range(4)]
    for each in askers:
        each.start()
    try:
        for _ in range(100):
            with run_dir.taken(path):
                assert run_dir.holder(path) == os.getpid()
    finally:
        over.set()
        for each in askers:
            each.join()


def test_of_many_that_start_at_once_one_takes_it_and_all_others_are_refused(tmp_path):
    """At once, as long as the first one runs."""
    refused = threading.Semaphore(0)

    def start(_):
        try:
            with run_dir.taken(tmp_path / "run"):
                assert all(refused.acquire(timeout=10) for _ in range(7))
        except RunDirTaken:
            refused.release()
            return "refused"
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(start, range(8))) == ["refused"] * 7 + ["taken"]


def test_leftovers_of_a_killed_one_are_taken_over(tmp_path, other):
    """The kernel let go of the lock; the files are still there."""
    path = tmp_path / "run"
    (path / "w7.sock").touch()
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert run_dir.holder(path) is None
    with run_dir.taken(path):
        assert [file.name for file in path.iterdir()] == ["lock"]


def test_what_is_not_ours_in_a_run_directory_stays(tmp_path):
    """Somebody names a folder by mistake."""
    path = tmp_path / "run"
    path.mkdir(mode=0o700)
    (path / "diary.txt").write_text("dear")
    with run_dir.taken(path):
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
    with pytest.raises(RunDirTaken, match="--run-path"), run_dir.taken(path):
        pass


def test_the_state_file_is_private_and_read_back_as_it_was(tmp_path):
    """Programs read it as JSON."""
    report = ReleaseReport(file="iris.pex", state="ready", since="now", paths=["/iris"], worker_pids=[3])
    said = State(dist_path="d", pid=os.getpid(), address="http://127.0.0.1:1", generation=3, releases=[report])
    with run_dir.taken(tmp_path / "run") as path:
        status.write(path, said)
        assert mode(path / "state.json") == 0o600
        assert json.loads((path / "state.json").read_text())["releases"][0]["worker_pids"] == [3]
        assert survey.read(path, tmp_path) == said
        (path / "state.json").write_text("{")
        with pytest.raises(PexdockError, match="cannot be read"):
            survey.read(path, tmp_path)
        (path / "state.json").unlink()
        assert survey.read(path, tmp_path).pid == os.getpid()


def test_without_a_supervisor_dist_itself_is_read(tmp_path):
    """A stale state file says nothing."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.json").write_text("stale")
    dist = tmp_path / "dist"
    assert survey.read(tmp_path / "run", dist).releases == []
    write_linked_base(dist / "base.pex")
    write_tiny(dist / "tiny.pex", "tiny", built_on="0.1.0")
    (dist / "zero.pex").touch()
    found = survey.read(tmp_path / "run", dist)
    assert found.pid is None
    assert [(each.file, each.state, each.kind, each.base_version) for each in found.releases] == [
        ("base.pex", "not running", "base", ""),
        ("tiny.pex", "not running", "model", "0.1.0"),
        ("zero.pex", "refused", "", ""),
    ]
    assert "the file is empty" in found.releases[2].reason
    table = release_table.as_table(found)
    assert table.startswith(f"no supervisor runs on {dist}")
    assert "the file is empty" in table


def test_the_table_is_aligned_and_has_reasons_and_last_lines_below_their_release():
    """Columns stand below their heads."""
    reports = [
        ReleaseReport(
            file="a.pex",
            name="a",
            version="0.1.0",
            sha256="0123456789ab",
            state="ready",
            since="",
            base_version="0.1.0",
            paths=["/a", "/b"],
            warnings=["odd"],
        ),
        ReleaseReport(file="long-name.pex", state="failed", since="", reason="it broke", log=["one", "two"], restarts=2),
    ]
    lines = release_table.as_table(State(dist_path="d", pid=7, address="http://x", releases=reports)).splitlines()
    assert lines == [
        "supervisor 7 serves d at http://x",
        "",
        "FILE           NAME  VERSION  DIGEST    STATE   BASE   RESTARTS  PATHS",
        "a.pex          a     0.1.0    01234567  ready   0.1.0  0         /a /b",
        "    warning: odd",
        "long-name.pex  -     -        -         failed  -      2         -",
        "    it broke",
        "    | one",
        "    | two",
    ]
    assert "no pex in d" in release_table.as_table(State(dist_path="d"))


def test_the_announcement_names_models_paths_one_command_and_what_is_wrong():
    """A release whose worker is down is not announced as served."""
    example = Example({"key": "a b/c"}, [{"x": "it's"}])
    words = ReleaseSpec("iris", "0.1", [EndpointSpec("predict", "/iris/{key}", ["key"], None, None, 1, 1, example)])
    broken = ReleaseReport(file="b.pex", state="refused", since="", reason="no zip")
    said = State(dist_path="d", address="http://127.0.0.1:8080", releases=[broken, ReleaseReport(file="iris.pex", state="ready", since="")])
    text = announce(said, [Route(words, ["/w1.sock"]), Route(ReleaseSpec("rose", "1", []), [])])
    assert "serves 1 model at http://127.0.0.1:8080" in text
    assert "iris 0.1: POST /iris/{key}" in text
    assert "b.pex is refused: no zip" in text
    assert "rose" not in text
    assert "http://127.0.0.1:8080/iris/a%20b%2Fc" in text.splitlines()[-1]
    assert announce(said, []).count("curl") == 0
    assert "Put a model's pex into d" in announce(said, [])
