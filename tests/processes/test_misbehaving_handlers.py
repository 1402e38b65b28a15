"""Handlers that do what no handler should: the others serve on, nothing wrong is answered, and the supervisor keeps its order."""

import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from supervisor_harness import Supervised, runs
from tinypex import times, write_tiny

UNRULY = Path(__file__).parent.parent / "models/unruly.py"


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path, restart_delay_min_s=0.05)
    write_tiny(supervised.dist / "unruly.pex", "unruly", module=UNRULY.read_text())
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    return supervised


def ask(supervised, what, x=1):
    """The predictions of one row, or the status."""
    with httpx.Client(timeout=30) as client:
        reply = client.post(f"{supervised.state()['address']}/unruly", json=[{"do": what, "x": x}])
    return reply.json()["predictions"] if reply.status_code == 200 else reply.status_code


def family(group):
    """The processes of a worker's group that run."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,pgid="], check=True, capture_output=True, text=True).stdout.splitlines()
    pairs = [tuple(map(int, line.split())) for line in listed]
    return [pid for pid, its_group in pairs if its_group == group and runs(pid)]


@pytest.mark.parametrize("what", ["forks", "forks_and_raises", "forks_and_exits"])
def test_a_copy_that_a_handler_forked_answers_nothing_and_ends(supervised, what):
    """The original answers, once, and goes on; whatever becomes of the copy, nobody hears of it."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        for x in range(20):
            assert ask(supervised, what, x) == [2 * x]
            assert ask(supervised, "nothing", x + 100) == [2 * x + 200]
        supervised.until(lambda: family(pid) == [pid])
        assert supervised.release("unruly.pex")["worker_pids"] == [pid]
        assert supervised.predictions("/tiny") == [6]


def test_a_copy_that_stays_ends_with_its_worker(supervised):
    """It belongs to the worker's group."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        assert ask(supervised, "forks_and_stays") == [2]
        assert len(family(pid)) == 2
    assert family(pid) == []


def test_a_worker_that_blocks_all_signals_ends_all_the_same(supervised):
    """It is told by its control socket; replaced first, and then with everybody else."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        assert ask(supervised, "blocks_signals") == [2]
        write_tiny(supervised.dist / "unruly-2.pex", "unruly", "0.2.0", module=UNRULY.read_text())
        supervised.until_state("unruly-2.pex", "ready")
        supervised.until(lambda: not runs(pid))
        assert ask(supervised, "blocks_signals") == [2]
        (pid,) = supervised.release("unruly-2.pex")["worker_pids"]
        supervised.process.terminate()
        assert supervised.process.wait(20) == 0
    assert not runs(pid)


def test_a_worker_that_closes_every_descriptor_is_restarted(supervised):
    """It can answer nobody any more. Others never notice."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        others = Others(supervised)
        assert ask(supervised, "closes_every_descriptor") in {500, 503}
        supervised.until(lambda: ask(supervised, "nothing") == [2])
        assert supervised.release("unruly.pex")["worker_pids"] != [pid]
        assert set(others.end()) == {(6,)}


def test_a_worker_in_a_folder_that_is_gone_serves_on(supervised):
    """Nothing of it goes by relative paths, and neither does its restart."""
    with supervised:
        assert ask(supervised, "changes_directory") == [2]
        assert ask(supervised, "nothing", 4) == [8]
        assert supervised.predictions("/tiny") == [6]


def test_a_gigabyte_of_output_holds_up_nobody(supervised):
    """It is read as fast as it comes, the log of the supervisor keeps a part of it, and others are answered meanwhile."""
    with supervised:
        others = Others(supervised)
        assert ask(supervised, "prints_a_gigabyte") == [2]
        assert set(others.end()) == {(6,)}
        assert supervised.err.stat().st_size < 2**26


class Others:
    """Requests for another model, one after the other, until `end` gives their answers."""

    def __init__(self, supervised):
        self.answers = []
        self.over = threading.Event()
        self.supervised = supervised
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.over.is_set():
            self.answers.append(tuple(self.supervised.predictions("/tiny")))
            time.sleep(0.01)

    def end(self):
        self.over.set()
        self.thread.join()
        assert self.answers
        return self.answers
