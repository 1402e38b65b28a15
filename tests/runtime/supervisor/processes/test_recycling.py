"""Which worker of a release is replaced while it serves, and when."""

import os
from types import SimpleNamespace

import pytest

from runtime.supervisor.processes.recycling import Recycling, told_requests
from runtime.supervisor.processes.worker_state import WorkerState


@pytest.fixture
def workers():
    """Two that are ready."""
    return [SimpleNamespace(state=WorkerState.READY, pid=os.getpid(), requests=0, is_wanted=True) for _ in range(2)]


def test_one_worker_of_a_release_at_a_time_is_replaced(workers):
    """The next one's turn comes when the first one's successor is ready."""
    renewal = Recycling(None, 0, 100)
    for worker in workers:
        worker.requests = 100
    new = renewal.look("tiny", workers, None)
    assert renewal.look("tiny", workers, None) is None
    assert renewal.relieved() is None
    new._machine.state = WorkerState.READY
    assert renewal.relieved() is workers[0]
    workers[0].state = WorkerState.RETIRED
    assert renewal.look("tiny", [*workers, new], None) is not None


def test_a_worker_that_was_sent_less_stays(workers):
    workers[0].requests = 99
    assert Recycling(None, 0, 100).look("tiny", workers, None) is None


def test_each_bound_is_off_by_itself(workers):
    """This process holds more than a byte, and any number of requests is more than none."""
    workers[0].requests = 10**9
    assert Recycling(None, 2**60, 0).look("tiny", workers, None) is None
    assert Recycling(None, 1, 0).look("tiny", workers[1:], None) is not None


@pytest.mark.parametrize(("max_requests", "told"), [(0, 0), (1, 1), (20, 1), (21, 2), (10_000, 500)])
def test_front_doors_tell_often_enough(max_requests, told):
    """Twenty times on the way, and never where nobody asks."""
    assert told_requests(max_requests) == told
