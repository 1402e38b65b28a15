"""Handlers that do what no handler should: other models keep serving, no wrong response is sent, and the supervisor stays in control."""

import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from supervisor_harness import Supervised, runs
from tinypex import times, write_tiny
from waiting import until

UNRULY = Path(__file__).parent.parent / "models/unruly.py"


@pytest.fixture
def supervised(tmp_path):
    supervised = Supervised(tmp_path, restart_delay_min_s=0.05, request_timeout_s=180)
    write_tiny(supervised.dist / "unruly.pex", "unruly", module=UNRULY.read_text())
    write_tiny(supervised.dist / "tiny.pex", "tiny", module=times(2, "/tiny"))
    return supervised


def predict(supervised, what, x=1):
    """Returns the predictions of one row, or the status."""
    with httpx.Client(timeout=180) as client:
        reply = client.post(f"{supervised.state()['address']}/unruly", json=[{"do": what, "x": x}])
    return reply.json()["predictions"] if reply.status_code == 200 else reply.status_code


def process_group(group):
    """Returns the running processes of a worker's group."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,pgid="], check=True, capture_output=True, text=True).stdout.splitlines()
    pairs = [tuple(map(int, line.split())) for line in listed]
    return [pid for pid, its_group in pairs if its_group == group and runs(pid)]


@pytest.mark.parametrize("what", ["forks", "forks_and_raises", "forks_and_exits"])
def test_a_forked_copy_of_a_handler_answers_nothing_and_ends(supervised, what):
    """The original answers once and goes on; nobody notices how the copy ends."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        for x in range(20):
            assert predict(supervised, what, x) == [2 * x]
            assert predict(supervised, "nothing", x + 100) == [2 * x + 200]
        supervised.until(lambda: process_group(pid) == [pid])
        assert supervised.release("unruly.pex")["worker_pids"] == [pid]
        assert supervised.predictions("/tiny") == [6]


def test_a_forked_process_that_stays_ends_with_its_worker(supervised):
    """It belongs to the worker's process group."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        assert predict(supervised, "forks_and_stays") == [2]
        assert len(process_group(pid)) == 2
    until(lambda: process_group(pid) == [])


def test_a_worker_that_blocks_all_signals_still_ends(supervised):
    """Its control socket tells it, first when it is replaced, and then at shutdown."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        assert predict(supervised, "blocks_signals") == [2]
        write_tiny(supervised.dist / "unruly-2.pex", "unruly", "0.2.0", module=UNRULY.read_text())
        supervised.until_state("unruly-2.pex", "ready")
        supervised.until(lambda: not runs(pid))
        assert predict(supervised, "blocks_signals") == [2]
        (pid,) = supervised.release("unruly-2.pex")["worker_pids"]
        supervised.process.terminate()
        assert supervised.process.wait(20) == 0
    assert not runs(pid)


def test_a_worker_that_closes_every_descriptor_is_restarted(supervised):
    """It cannot answer any more. Clients of other workers never notice."""
    with supervised:
        (pid,) = supervised.release("unruly.pex")["worker_pids"]
        others = Others(supervised)
        assert predict(supervised, "closes_every_descriptor") in {500, 503}
        supervised.until(lambda: predict(supervised, "nothing") == [2])
        supervised.until(lambda: supervised.release("unruly.pex")["worker_pids"] not in ([], [pid]))
        assert set(others.end()) == {(6,)}


def test_a_worker_in_a_removed_folder_keeps_serving(supervised):
    """Neither the worker nor its restart uses relative paths."""
    with supervised:
        assert predict(supervised, "changes_directory") == [2]
        assert predict(supervised, "nothing", 4) == [8]
        assert supervised.predictions("/tiny") == [6]


def test_a_gigabyte_of_output_delays_nobody(supervised):
    """It is read as fast as it comes, the supervisor's log keeps a part of it, and others are answered meanwhile."""
    with supervised:
        others = Others(supervised)
        assert predict(supervised, "prints_a_gigabyte") == [2]
        assert set(others.end()) == {(6,)}
        assert supervised.err.stat().st_size < 2**26


class Others:
    """Sends requests for another model, one after the other, until `end` returns the responses."""

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
